// A Go service and a Go client for `cargo xtask vm core`.
//
//	core-go serve ADDRESS            answers with "go PATH"; /fan/… asks the Python server three times at once
//	core-go get URL COUNT            COUNT requests in turn on kept connections, URL/0, URL/1, …
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"sync"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("core-go serve ADDRESS | get URL COUNT")
	}
	switch os.Args[1] {
	case "serve":
		http.HandleFunc("/fan/", fan)
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

// fan asks from goroutines of its own.
func fan(answer http.ResponseWriter, request *http.Request) {
	var all sync.WaitGroup
	for i := range 3 {
		all.Add(1)
		go func() {
			defer all.Done()
			get(fmt.Sprintf("http://127.0.0.1:18082%s/%d", request.URL.Path, i))
		}()
	}
	all.Wait()
	fmt.Fprintln(answer, "all")
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
