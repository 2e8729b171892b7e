package config

import (
	"fmt"
)

func proxyOf(k *proxyKeys) *Proxy {
	if k == nil || !otherwise(k.on, true) || !k.url.ok() {
		return nil
	}
	except := valuesOf(k.except)
	return &Proxy{URL: k.url.v, Except: except, Hosts: wholeHosts(except)}
}

const (
	defaultFileMode  = "0644"
	defaultFileOwner = "root:root"
)

func (r *resolver) files(l list[*fileEntryKeys], path string) []File {
	var out []File
	for i, k := range l.items {
		mode := otherwise(k.mode, defaultFileMode)
		if len(mode) == 3 {
			mode = "0" + mode
		}
		out = append(out, File{Path: k.path.v, Content: k.content.v, Mode: mode, Owner: otherwise(k.owner, defaultFileOwner)})
		for _, other := range l.items[:i] {
			if k.path.ok() && k.path.v == other.path.v {
				r.error(k.path.at, fmt.Sprintf("%s[%d].path", under(path, "files"), i), fmt.Sprintf("%s is written twice", shorten(k.path.v)), "remove one",
					r.related(other.path.at, "the other is here"))
				break
			}
		}
	}
	return out
}
