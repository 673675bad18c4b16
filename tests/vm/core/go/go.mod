module kernspan/core

go 1.22
