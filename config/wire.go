package config

import (
	"gopkg.in/yaml.v3"
)

// The wire types hold a gpustrap.yaml as it was written: every value with its
// place, unset where the file says nothing. They are what is inherited and
// merged; Resolve makes Machines of them.

// mark is a place in the configuration file, counted from 1. The zero mark is
// that of a value that is not set.
type mark struct {
	line, column int32
}

func markOf(n *yaml.Node) mark { return mark{int32(n.Line), int32(n.Column)} }

// value is a scalar. bad says that it was written but refused, so that nobody
// complains a second time that it is missing.
type value[V any] struct {
	v   V
	at  mark
	bad bool
}

func (v value[V]) set() bool { return v.at != mark{} }
func (v value[V]) ok() bool  { return v.set() && !v.bad }

type text = value[string]

// list is a sequence; bad says that an item, or the whole, was refused. Items
// holds those that were not.
type list[V any] struct {
	items []V
	at    mark
	bad   bool
}

func (l list[V]) set() bool { return l.at != mark{} }

// section is the part that every mapping has: where it begins, whether it was
// refused as a whole, and whether a key in it was not understood, so that what
// is missing may be misspelt.
type section struct {
	at   mark
	bad  bool
	gaps bool
}

func (s *section) self() *section { return s }

// under returns what two merged mappings leave: the place of the nearer one.
func (s section) under(over section) section {
	over.bad = over.bad || s.bad
	over.gaps = over.gaps || s.gaps
	return over
}

// fileKeys is the whole document.
type fileKeys struct {
	section
	version  value[int]
	settings settings
	key      text
	profiles list[named]
	machines list[*machineKeys]
}

// named is an entry of profiles.
type named struct {
	name    text
	profile *profileKeys
}

type profileKeys struct {
	section
	extends  text
	settings settings
}

type machineKeys struct {
	section
	name     text
	profile  text
	match    *matchKeys
	settings settings
}

type matchKeys struct {
	section
	mac    list[text]
	serial text
	uuid   text
}

// settings are what can be inherited: from the top level, through profiles, to
// a machine.
type settings struct {
	gaps                   bool // of the mappings that they stand in
	ubuntu, arch, hostname text
	user                   *userKeys
	users                  list[*userKeys]
	locale, timezone       text
	keyboard               *keyboardKeys
	gpu                    *gpuKeys
	docker                 *dockerKeys
	toolkit                *toolkitKeys
	storage                *storageKeys
	network                *networkKeys
	packages               list[text]
	apps                   list[*appKeys]
	sources                *sourcesKeys
	ready                  *readyKeys
	proxy                  *proxyKeys
	caCerts                list[text]
	ntp                    list[text]
	kernelArgs             list[text]
	files                  list[*fileEntryKeys]
	lateCommands           list[text]
	firstBoot              list[text]
	boot                   *bootKeys
	after, offline         text
	reinstall              value[bool]
	report                 text
	bmc                    *bmcKeys
	autoinstall            value[*yaml.Node]
}

type userKeys struct {
	section
	name, fullName text
	password       passwordKeys
	authorizedKeys list[publicKeys]
	groups         list[text]
	sudo           text
	docker         text
	shell          text
}

// passwordKeys are two ways to give one thing: hash holds the crypt hash
// whether it stood in the configuration or in a file.
type passwordKeys struct {
	hash, file text
}

func (p passwordKeys) set() bool { return p.hash.set() || p.file.set() }
func (p passwordKeys) bad() bool { return p.hash.bad || p.file.bad }

func (p passwordKeys) value() string {
	if p.file.set() {
		return p.file.v
	}
	return p.hash.v
}

// publicKeys is an entry of authorized_keys: the lines of one text or file.
type publicKeys struct {
	lines []string
	at    mark
	bad   bool
}

type keyboardKeys struct {
	section
	layout, variant, toggle text
}

type gpuKeys struct {
	section
	on                                  value[bool]
	model                               list[text]
	pci                                 list[text]
	auto                                value[bool]
	count                               value[int]
	driver, modules, source, secureBoot text
	kernel, fabricManager, display      text
	dcgm, persistence                   value[bool]
	mig                                 list[text]
	powerLimit                          value[int]
	override                            *overrideKeys
}

type overrideKeys struct {
	section
	reason text
}

type dockerKeys struct {
	section
	on           value[bool]
	version      text
	dataRoot     text
	log          *logKeys
	liveRestore  value[bool]
	shmSize      text
	publish      text
	addressPools list[*addressPoolKeys]
	mirrors      list[text]
	prune        *pruneKeys
}

type pruneKeys struct {
	section
	on    value[bool]
	every text
	days  value[int]
}

type logKeys struct {
	section
	maxSize  text
	maxFiles value[int]
}

type addressPoolKeys struct {
	section
	base text
	size value[int]
}

type toolkitKeys struct {
	section
	on      value[bool]
	version text
}

// appKeys is an entry of apps, whether it was a name alone or a mapping.
type appKeys struct {
	section
	name    text
	start   value[bool]
	address text
	port    value[int]
	shmSize text

	imageFile text
}

type storageKeys struct {
	section
	layout     text
	disk       *diskKeys
	disks      list[*diskKeys]
	encryption *encryptionKeys
	boot, swap text
	data       list[*dataKeys]
	config     value[*yaml.Node]
}

type encryptionKeys struct {
	section
	on  value[bool]
	key text // what the file holds
	tpm *tpmKeys
}

type tpmKeys struct {
	section
	on       value[bool]
	pcrs     list[value[int]]
	recovery text
}

type dataKeys struct {
	section
	disk       *diskKeys
	mount      text
	preserve   value[bool]
	filesystem text
	partition  value[int]
}

type diskKeys struct {
	section
	serial, wwn, path, size text
}

type networkKeys struct {
	section
	iface, mac  text
	dhcp        value[bool]
	addresses   list[text]
	gateway     text
	nameservers list[text]
	search      list[text]
	mtu         value[int]
	optional    value[bool]
	interfaces  list[*linkKeys]
	bonds       list[*linkKeys]
	vlans       list[*linkKeys]
}

// linkKeys is an entry of interfaces, bonds or vlans. Its addresses stand in a
// networkKeys of its own.
type linkKeys struct {
	section
	name    text
	members list[text]
	mode    text
	id      value[int]
	parent  text
	network networkKeys
}

type sourcesKeys struct {
	section
	ubuntu, docker, toolkit, cuda *sourceKeys
}

type sourceKeys struct {
	section
	url, suite  text
	key         text // the key's text or bytes, from the configuration or a file
	fingerprint text
}

type readyKeys struct {
	section
	report text
	token  text // the token itself, read from token_file
	dcgmi  text
}

type bmcKeys struct {
	section
	url, user, passwordFile text
	system                  text
	fingerprint, ca         text
	insecure                value[bool]
	boot                    text
}

type bootKeys struct {
	section
	confirm text
	timeout value[int]
}

type proxyKeys struct {
	section
	on     value[bool]
	url    text
	except list[text]
}

// fileEntryKeys is an entry of files.
type fileEntryKeys struct {
	section
	path, content, mode, owner text
}
