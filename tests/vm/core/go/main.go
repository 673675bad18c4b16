// A Go service and a Go client for `cargo xtask vm core`.
//
//	core-go serve ADDRESS            answers with "go PATH"
//	core-go get URL COUNT            COUNT requests in turn on kept connections, URL/0, URL/1, …
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("core-go serve ADDRESS | get URL COUNT")
	}
	switch os.Args[1] {
	case "serve":
		http.HandleFunc("/", func(answer http.ResponseWriter, request *http.Request) {
			fmt.Fprintf(answer, "go %s\n", request.URL.Path)
		})
		log.Fatal(http.ListenAndServe(os.Args[2], nil))
	case "get":
		count, err := strconv.Atoi(os.Args[3])
		if err != nil {
			log.Fatal(err)
		}
		for i := range count {
			get(fmt.Sprintf("%s/%d", os.Args[2], i))
		}
	}
}

func get(url string) {
	answer, err := http.Get(url)
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		log.Fatal(err)
	}
	if answer.StatusCode != 200 {
		log.Fatalf("%s: %s", url, answer.Status)
	}
}
