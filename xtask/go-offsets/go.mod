module kernspan/go-offsets

go 1.21
