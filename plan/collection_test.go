package plan_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/gpustrap/gpustrap/plan"
)

// TestMenuOfReinstall: where the configuration says yes, nobody is asked.
func TestMenuOfReinstall(t *testing.T) {
	if menu := plan.Menu(one(t, "reinstall: true\n")); len(menu.Choices) != 0 {
		t.Errorf("the choices are %+v", menu.Choices)
	}
	if overlay := plan.CIDataOverlay(one(t, "")); len(overlay.Menu.Choices) != 1 || !strings.HasPrefix(overlay.Menu.Choices[0].Title, overlay.Menu.Title) {
		t.Errorf("the choices beside a seed of its own are %+v", overlay.Menu.Choices)
	}
}

// TestCollection: a medium for several machines is as careful as the most careful
// of them, and says what is on it.
func TestCollection(t *testing.T) {
	hash := "$6$TQOk0/1PTVzPvxca$5EpdocypScWfr9gGwHd5c5OuQQAGktkFFyKrCJ5smct4Q7cOWOKMO5Df0tGN/FyoeBSqZTtAoBG38AkLpDnGu/"
	fleet := func(first, second string) []*plan.Machine {
		project := load(t, "version: 1\nubuntu: \"24.04\"\nuser: {name: ops, authorized_keys: [\""+key+"\"]}\nstorage: {disk: {serial: S1}}\nmachines:\n"+
			"  - {name: node01, match: {serial: A}, "+first+"}\n  - {name: node02, match: {serial: B}, "+second+"}\n")
		machines, err := project.Select(nil)
		if err != nil {
			t.Fatal(err)
		}
		return machines
	}
	const title = "ERASE the disk and install the one of 2 machines that this is"
	tests := []struct {
		first, second string
		title         string
		timeout       int
		unattended    bool
		choices       int
	}{
		{"boot: {confirm: none}", "boot: {confirm: none}", title, 0, true, 1},
		{"boot: {confirm: none}", "boot: {timeout: 7}", title, 30, true, 1},
		{"boot: {timeout: 5}", "boot: {confirm: typed}", title + " (asks first)", 30, false, 1},
		{"reinstall: true", "reinstall: true", title, 30, true, 0},
		{"reinstall: true", "reinstall: false", title, 30, true, 1},
	}
	for _, tt := range tests {
		t.Run(tt.first+" "+tt.second, func(t *testing.T) {
			menu := plan.CollectionMenu(fleet(tt.first, tt.second))
			if menu.Title != tt.title || menu.Timeout != tt.timeout || len(menu.Choices) != tt.choices || slices.Contains(menu.KernelArgs, "autoinstall") != tt.unattended {
				t.Errorf("%+v", menu)
			}
		})
	}
	if got := plan.CollectionSecrets(fleet("after: reboot", "after: reboot")); !strings.Contains(got, "all 2 machines") || !strings.Contains(got, "no password hash") {
		t.Error(got)
	}
	user := "user: {password_hash: " + hash + "}"
	if got := plan.CollectionSecrets(fleet(user, "users: [{name: ada, password_hash: "+hash+"}]")); !strings.Contains(got, "password hashes of ada, ops:") {
		t.Error(got)
	}
}
