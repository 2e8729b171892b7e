package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/gpustrap/gpustrap/apps"
	"github.com/gpustrap/gpustrap/config"
)

// oneLine returns a text that machines had a say in as a terminal can be shown it: it
// neither moves the cursor nor begins another line.
func oneLine(s string) string {
	return strings.Join(strings.Fields(printable(s)), " ")
}

// printable is the same for a text of several lines.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t', unicode.IsPrint(r):
			return r
		case unicode.IsSpace(r):
			return ' '
		}
		return -1
	}, strings.ToValidUTF8(s, "?"))
}

// appText says in a line what a container app is, and who starts it.
func appText(a config.App) string {
	app, err := apps.Read(a.Name)
	switch {
	case err != nil:
		return a.Name + ": " + err.Error()
	case !app.Service():
		return fmt.Sprintf("%s: %s; app run %s", a.Name, app.Summary, a.Name)
	case !a.Start:
		return fmt.Sprintf("%s: %s; each user's own, app start %s", a.Name, app.Summary, a.Name)
	}
	port := "the first free port from " + strconv.Itoa(app.Port) + " on"
	if a.Port != 0 {
		port = "port " + strconv.Itoa(a.Port)
	}
	text := fmt.Sprintf("%s: %s; the machine's own at each boot, on %s, %s", a.Name, app.Summary, a.Address, port)
	if !a.Address.IsLoopback() {
		text += "; open to the network past the firewall ufw"
	}
	return text
}

// dockerText says in a line how Docker is set up.
func dockerText(d *config.Docker, version string) string {
	text := "Docker CE " + version
	if d.DataRoot != "" {
		text += ", images and containers in " + d.DataRoot
	}
	if d.Prune != nil {
		text += fmt.Sprintf(", images unused for %s removed %s", count(d.Prune.UnusedDays, "day"), d.Prune.Every)
	}
	return text
}

// confirmText says what has to be answered before a disk is erased.
func confirmText(b config.Boot) string {
	switch b.Confirm {
	case config.ConfirmTyped:
		return "at the screen, and waits until somebody types yes"
	case config.ConfirmCountdown:
		return fmt.Sprintf("nothing: the boot menu counts down %s, any key stops it", count(b.Timeout, "second"))
	}
	return "nothing, and begins at once"
}

// afterTexts say what a machine does when its installation is over.
var afterTexts = map[config.After]string{
	config.AfterPoweroff: "powers off",
	config.AfterReboot:   "restarts, into the installed system",
}

// offlineTexts say where a machine's packages come from that may lack a network.
var offlineTexts = map[config.Offline]string{
	config.OfflineOnly:     "the installation medium alone, no network",
	config.OfflineFallback: "the installation medium, or else the network",
}

// receiptText says who hears whether the machine is ready.
func receiptText(r config.Ready) string {
	text := "posted to " + r.Report + " at each boot"
	if r.Token != "" {
		text += ", signed"
	}
	return text
}

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
	if u.Rootless {
		text += ", rootless Docker of their own"
	}
	if u.Docker {
		text += ", docker group: is root on this machine, whatever sudo says"
	}
	return text
}

// portsText says where ports can be reached that containers publish.
func portsText(d *config.Docker) string {
	if d.Publish == config.PublishLocalhost {
		return "published on 127.0.0.1 unless told otherwise; one that is told bypasses ufw"
	}
	return "published to everybody, past ufw; docker.publish: localhost keeps them here"
}

// settingsText says what is set on every GPU at boot.
func settingsText(g *config.GPU) string {
	persistence := "off"
	if g.Persistence {
		persistence = "on"
	}
	text := "persistence mode " + persistence
	if g.PowerLimit > 0 {
		text += fmt.Sprintf(", power limit %d W", g.PowerLimit)
	}
	switch {
	case len(g.MIG) > 0:
		text += ", MIG instances " + strings.Join(g.MIG, ", ")
	case g.MIG != nil:
		text += ", MIG off"
	}
	return text
}
