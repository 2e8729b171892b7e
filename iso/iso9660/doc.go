// Package iso9660 reads the volumes of an ISO 9660 image (ECMA-119) with the
// Joliet and SUSP/Rock Ridge extensions, and edits their directory trees in
// place: it answers with the bytes to write and leaves everything else alone.
//
// A volume is one set of volume descriptors with the trees they lead to. An
// image made with a partition offset holds two of them over the same file
// content, so a volume has a start, and every address inside it is relative to
// that start.
//
// The structures are those of ECMA-119 (4th edition), of the System Use Sharing
// Protocol 1.12 (SUSP), of the Rock Ridge Interchange Protocol 1.12 (RRIP, also
// its earlier form RRIP_1991A), and of the Joliet specification. Clause numbers
// in comments refer to these.
package iso9660
