// A TCP connection with both ends in one goroutine: for each number on standard input, so many writes of
// one end and reads of the other, and the nanoseconds that they took. First line: the sockets' cookies.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

func demand(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "pair:", err)
		os.Exit(1)
	}
}

func cookie(conn net.Conn) uint64 {
	const socketCookie = 57 // SO_COOKIE
	raw, err := conn.(*net.TCPConn).SyscallConn()
	demand(err)
	var value uint64
	demand(raw.Control(func(fd uintptr) {
		size := uint32(8)
		syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.SOL_SOCKET, socketCookie,
			uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&size)), 0)
	}))
	return value
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	demand(err)
	there, err := net.Dial("tcp", listener.Addr().String())
	demand(err)
	here, err := listener.Accept()
	demand(err)
	fmt.Println(cookie(there), cookie(here))
	bytes := make([]byte, 256)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		calls, err := strconv.Atoi(lines.Text())
		demand(err)
		began := time.Now()
		for n := 0; n < calls; n++ {
			_, err := there.Write(bytes)
			demand(err)
			_, err = io.ReadFull(here, bytes)
			demand(err)
		}
		fmt.Println(time.Since(began).Nanoseconds())
	}
}
