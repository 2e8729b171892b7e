package main

import (
	"strings"

	"github.com/gpustrap/gpustrap/config"
)

// userText says in a line what a user may do and how they log in.
func userText(u config.User) string {
	var how []string
	if n := len(u.AuthorizedKeys); n > 0 {
		how = append(how, count(n, "SSH key"))
	}
	if u.PasswordHash != "" {
		how = append(how, "password")
	}
	text := u.Name + " (" + strings.Join(how, ", ") + ")"
	if u.Sudo != config.SudoNo {
		text += ", sudo"
	}
	if u.Docker {
		text += ", docker group: can become root"
	}
	return text
}
