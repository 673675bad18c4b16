// go-offsets prints, for each Go toolchain, where the runtime keeps what kernspan reads of it:
// one row of the table in agent-core/src/golang/layout.rs a version.
//
// The offsets come out of the DWARF of a program that is built with that very toolchain (fetched as
// toolchain modules through the Go module proxy), never from memory. `-check FILE` prints the row
// of one program that exists already.
//
//	go run . go1.21.0 go1.21.13 go1.22.0 …
package main

import (
	"debug/buildinfo"
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// field is one number of a row: a field of a struct of the runtime.
type field struct{ strct, name string }

// Order of the fields of `Layout` in Rust.
var fields = []field{
	{"runtime.g", "goid"},
	{"runtime.g", "parentGoid"},
	{"runtime.g", "startpc"},
	{"runtime.g", "m"},
	{"runtime.m", "curg"},
	{"runtime.m", "p"},
	{"runtime.m", "oldp"},
	{"runtime.p", "goidcache"},
	{"runtime.p", "goidcacheend"},
}

// missing stands for a field that this version does not have.
const missing = "NONE"

const program = `package main

import "net/http"

func main() { http.ListenAndServe("127.0.0.1:0", nil) }
`

func main() {
	versions := os.Args[1:]
	if len(versions) == 2 && versions[0] == "-check" {
		print(versions[1])
		return
	}
	directory, err := os.MkdirTemp("", "go-offsets")
	fail(err)
	defer os.RemoveAll(directory)
	fail(os.WriteFile(filepath.Join(directory, "main.go"), []byte(program), 0o644))
	fail(os.WriteFile(filepath.Join(directory, "go.mod"), []byte("module offsets.invalid\n\ngo 1.17\n"), 0o644))
	for _, version := range versions {
		target := filepath.Join(directory, version)
		build := exec.Command("go", "build", "-o", target, ".")
		build.Dir = directory
		build.Env = append(os.Environ(), "GOTOOLCHAIN="+version, "GOFLAGS=-mod=mod", "GOARCH=amd64")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, version, "cannot be had:", err)
			continue
		}
		print(target)
		os.Remove(target)
	}
}

func print(file string) {
	info, err := buildinfo.ReadFile(file)
	fail(err)
	object, err := elf.Open(file)
	fail(err)
	defer object.Close()
	data, err := object.DWARF()
	fail(err)
	offsets := offsets(data)
	var row []string
	for _, field := range fields {
		offset, found := offsets[field]
		if found {
			row = append(row, fmt.Sprint(offset))
		} else {
			row = append(row, missing)
		}
	}
	fmt.Printf("%s: %s\n", info.GoVersion, strings.Join(row, ", "))
}

func offsets(data *dwarf.Data) map[field]int64 {
	found := map[field]int64{}
	reader := data.Reader()
	for {
		entry, err := reader.Next()
		fail(err)
		if entry == nil {
			return found
		}
		name, _ := entry.Val(dwarf.AttrName).(string)
		if entry.Tag != dwarf.TagStructType || !wanted(name) {
			continue
		}
		for {
			member, err := reader.Next()
			fail(err)
			if member == nil || member.Tag == 0 {
				break
			}
			label, _ := member.Val(dwarf.AttrName).(string)
			if offset, ok := member.Val(dwarf.AttrDataMemberLoc).(int64); ok {
				found[field{name, label}] = offset
			}
		}
	}
}

func wanted(strct string) bool {
	for _, field := range fields {
		if field.strct == strct {
			return true
		}
	}
	return false
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
