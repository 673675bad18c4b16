module links.invalid

go 1.21
