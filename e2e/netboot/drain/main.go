//go:build linux

// Command drain measures how fast a server sends: it fetches a file by many clients at
// a time and has the kernel drop what arrives, so that the client costs little.
//
//	drain [-clients N] [-requests N] [-bytes N] URL…
//
// With -bytes each request asks for a range of that length, at a place that differs
// from one to the next. It prints the number of bytes, the seconds that it took, and
// the number of answers that were not what was asked for.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	clients := flag.Int("clients", 1, "clients at a time")
	requests := flag.Int("requests", 1, "requests of each client, on one connection")
	length := flag.Int64("bytes", 0, "length of the ranges; 0: the whole file")
	flag.Parse()
	if flag.NArg() == 0 || *clients < 1 {
		flag.Usage()
		os.Exit(2)
	}
	var total, bad atomic.Int64
	sink := make([]byte, 1<<20) // nothing is ever written to it
	var group sync.WaitGroup
	begin := time.Now()
	for i := range *clients {
		group.Go(func() {
			n, err := client(flag.Arg(i%flag.NArg()), i, *requests, *length, sink)
			total.Add(n)
			if err != nil {
				bad.Add(1)
				fmt.Fprintln(os.Stderr, "drain:", err)
			}
		})
	}
	group.Wait()
	fmt.Printf("%d %.3f %d\n", total.Load(), time.Since(begin).Seconds(), bad.Load())
	if bad.Load() > 0 {
		os.Exit(1)
	}
}

// client sends requests on one connection and returns how many bytes of bodies came.
func client(address string, number, requests int, length int64, sink []byte) (total int64, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return 0, err
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }() // nothing is written behind the answers
	size := int64(0)
	for i := range requests {
		request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\n", u.RequestURI(), u.Host)
		if length > 0 {
			at := int64(number*7919+i*104729) * 4096
			if size > length {
				at %= size - length
			} else {
				at = 0
			}
			request += fmt.Sprintf("Range: bytes=%d-%d\r\n", at, at+length-1)
		}
		if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
			return total, err
		}
		body, whole, err := answer(conn, length, sink)
		total += body
		if err != nil {
			return total, err
		}
		size = whole
	}
	return total, nil
}

// answer reads one answer and drops its body.
func answer(conn net.Conn, length int64, sink []byte) (body, whole int64, err error) {
	reader := bufio.NewReaderSize(conn, 4096)
	r, err := http.ReadResponse(reader, nil)
	if err != nil {
		return 0, 0, err
	}
	want := http.StatusOK
	if length > 0 {
		want = http.StatusPartialContent
		if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-%d/%d", new(int64), new(int64), &whole); err != nil {
			return 0, 0, fmt.Errorf("%s: no range: %w", r.Status, err)
		}
	}
	if r.StatusCode != want || length > 0 && r.ContentLength != length {
		return 0, 0, fmt.Errorf("%s, %d bytes", r.Status, r.ContentLength)
	}
	body = r.ContentLength
	return body, whole, drop(conn, body-int64(reader.Buffered()), sink)
}

// drop has the kernel throw away what arrives (MSG_TRUNC, tcp(7)).
func drop(conn net.Conn, n int64, sink []byte) error {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		for n > 0 {
			got, _, err := unix.Recvfrom(int(fd), sink[:min(int64(len(sink)), n)], unix.MSG_TRUNC|unix.MSG_DONTWAIT)
			switch {
			case err == unix.EAGAIN:
				return false
			case err == unix.EINTR:
				continue
			case err != nil:
				failed = err
				return true
			case got == 0:
				failed = io.ErrUnexpectedEOF
				return true
			}
			n -= int64(got)
		}
		return true
	})
	if failed != nil {
		return failed
	}
	return err
}
