module kernspan.invalid/gotls

go 1.21
