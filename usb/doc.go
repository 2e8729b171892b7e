// Package usb lists a Linux machine's block devices, refuses those that must not
// be overwritten, writes an image to one and verifies it by reading it back.
//
// Everything fails closed: a device is written only when the machine's own
// records (sysfs, mounts, swap areas, udev) show nothing that uses it or anything
// built on it, and what cannot be found out counts as a reason to refuse. The
// records are read through an fs.FS, so that fixtures of other machines can stand
// in for the running one.
//
// Offsets and lengths are in bytes throughout.
package usb
