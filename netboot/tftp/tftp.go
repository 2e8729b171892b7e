// Package tftp is a read-only TFTP server for network boot: RFC 1350 with the
// options blksize (RFC 2348), timeout and tsize (RFC 2349) and windowsize (RFC
// 7440).
//
// Firmware reads boot loaders through it. What it does not do, since no firmware
// needs it: writing, the modes netascii and mail, multicast.
package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Operation codes (RFC 1350, section 5; RFC 2347).
const (
	opRead        = 1
	opWrite       = 2
	opData        = 3
	opAcknowledge = 4
	opError       = 5
	opOptions     = 6
)

// Error codes (RFC 1350, appendix; RFC 2347).
const (
	codeOther    = 0
	codeNotFound = 1
	codeAccess   = 2
	codeIllegal  = 4
	codeOptions  = 8
)

const (
	headerSize       = 4     // bytes of operation and block number in front of the data
	defaultBlockSize = 512   // bytes (RFC 1350)
	minBlockSize     = 8     // bytes (RFC 2348)
	maxBlockSize     = 65464 // bytes (RFC 2348)
	// etherBlockSize is the largest block, in bytes, that fits an Ethernet frame with
	// the headers of IPv4 and UDP. Firmware often cannot join fragments.
	etherBlockSize = 1468
	maxWindow      = 64 // blocks; more than fits the receive buffers of firmware
)

// request is a read request as it was received. A zero in place of an option's value
// means that the option was not given.
type request struct {
	name      string
	blockSize int // bytes
	window    int // blocks
	timeout   int // seconds
	wantsSize bool
}

// protocolError is an error that the peer is told.
type protocolError struct {
	code    uint16
	message string
}

func (e *protocolError) Error() string { return fmt.Sprintf("%s (TFTP error %d)", e.message, e.code) }

// decodeRequest decodes the first packet of a transfer. Options that are unknown or
// have values out of range are left out, as RFC 2347 wants.
func decodeRequest(packet []byte) (request, error) {
	if len(packet) < 2 {
		return request{}, &protocolError{codeIllegal, "the packet is too short"}
	}
	switch binary.BigEndian.Uint16(packet) {
	case opRead:
	case opWrite:
		return request{}, &protocolError{codeAccess, "this server is read-only"}
	case opData, opAcknowledge, opError, opOptions:
		return request{}, errNoRequest
	default:
		return request{}, &protocolError{codeIllegal, "unknown operation"}
	}
	words := bytes.Split(packet[2:], []byte{0})
	if len(words) < 3 || len(words[0]) == 0 {
		return request{}, &protocolError{codeIllegal, "the request has no file name and mode"}
	}
	words = words[:len(words)-1] // what follows the last NUL is padding
	if !strings.EqualFold(string(words[1]), "octet") {
		return request{}, &protocolError{codeIllegal, "only the mode octet is served"}
	}
	req := request{name: string(words[0])}
	for i := 2; i+1 < len(words); i += 2 {
		req.option(strings.ToLower(string(words[i])), string(words[i+1]))
	}
	return req, nil
}

// errNoRequest is for a packet that belongs to a transfer, and came to the port that
// takes requests.
var errNoRequest = errors.New("not a request")

func (r *request) option(name, value string) {
	n, err := strconv.Atoi(value)
	if err != nil {
		return
	}
	switch name {
	case "blksize":
		if n >= minBlockSize && n <= maxBlockSize {
			r.blockSize = min(n, etherBlockSize)
		}
	case "windowsize":
		if n >= 1 && n <= 65535 {
			r.window = min(n, maxWindow)
		}
	case "timeout":
		if n >= 1 && n <= 255 {
			r.timeout = n
		}
	case "tsize":
		r.wantsSize = true
	}
}

// options returns the answer to the options that are taken, nil when there are none.
func (r *request) options(size int64) []byte {
	b := []byte{0, opOptions}
	add := func(name string, value int64) {
		b = append(append(b, name...), 0)
		b = append(strconv.AppendInt(b, value, 10), 0)
	}
	if r.blockSize > 0 {
		add("blksize", int64(r.blockSize))
	}
	if r.wantsSize {
		add("tsize", size)
	}
	if r.timeout > 0 {
		add("timeout", int64(r.timeout))
	}
	if r.window > 0 {
		add("windowsize", int64(r.window))
	}
	if len(b) == 2 {
		return nil
	}
	return b
}

func encodeError(e *protocolError) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0, opError}, e.code)
	return append(append(b, e.message...), 0)
}

// decodeReply decodes a packet of a client within a transfer: the number of the block
// that it acknowledges, or its error.
func decodeReply(packet []byte) (block uint16, err error) {
	if len(packet) < headerSize {
		return 0, errNoRequest
	}
	n := binary.BigEndian.Uint16(packet[2:])
	switch binary.BigEndian.Uint16(packet) {
	case opAcknowledge:
		return n, nil
	case opError:
		message, _, _ := bytes.Cut(packet[headerSize:], []byte{0})
		return 0, &protocolError{n, fmt.Sprintf("the client ended the transfer: %q", message)}
	}
	return 0, errNoRequest
}
