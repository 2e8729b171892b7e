package scripts_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPickMachine: one machine of three is picked by what is given of it, its
// autoinstall takes the place of the shared one, and its early-commands are run.
func TestPickMachine(t *testing.T) {
	needPyYAML(t)
	const table = "node01\tserial\tJ1\nnode01\tmac\tb8:ce:f6:00:00:01\nnode01\tmac\tb8:ce:f6:00:00:11\n" +
		"node02\tuuid\t" + rightUUID + "\nnode03\tmac\tb8:ce:f6:00:00:03\nodd\tserial\tJ\\t \"3\"\n"
	cases := []struct {
		name, serial, uuid, mac string
		want                    string
		says                    string
	}{
		{"by serial and one MAC of two", "J1", "x", "b8:ce:f6:00:00:11", "node01", "this machine is node01"},
		{"by UUID", "J9", strings.ToUpper(rightUUID), rightMAC, "node02", ""},
		{"by MAC", "J9", "x", "b8:ce:f6:00:00:03", "node03", ""},
		{"a serial number with a backslash", `J\t "3"`, "x", "b8:ce:f6:00:00:09", "odd", ""},
		{"the serial number alone is not enough", "J1", "x", "b8:ce:f6:00:00:09", "", "this hardware is none of the 4 machines of this medium"},
		{"a stranger", "J9", "x", "b8:ce:f6:00:00:09", "", `  - {name: NAME, match: {serial: "J9", uuid: "x", mac: ["b8:ce:f6:00:00:09"]}}`},
		{"two machines", "J1", rightUUID, rightMAC, "", "this hardware could be any of 2 machines: node01 node02"},
		{"its own guard stops it", "J9", "x", "b8:ce:f6:00:00:03", "node03", "stopped"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			early := `["echo first >$DIR/ran", [sh, -c, "echo second >>$DIR/ran"]]`
			if c.says == "stopped" {
				early = `["echo first >$DIR/ran; echo stopped; exit 3", "echo second >>$DIR/ran"]`
			}
			files := map[string]string{
				"cdrom/machines.tsv":               table,
				"sys/class/dmi/id/product_serial":  c.serial + "\n",
				"sys/class/dmi/id/product_uuid":    c.uuid + "\n",
				"sys/class/net/eth0/address":       c.mac + "\n",
				"sys/class/net/eth0/device/vendor": "",
				"autoinstall.yaml":                 "shared: 1\n",
			}
			for _, name := range []string{"node01", "node02", "node03", "odd"} {
				files["cdrom/machines/"+name] = "#cloud-config\nautoinstall:\n  version: 1\n  identity: {hostname: " + name + ", username: 'no'}\n  early-commands: " + early + "\n"
			}
			dir := tree(t, files)
			t.Setenv("GPUSTRAP_AUTOINSTALL", dir+"/autoinstall.yaml")
			out, err := live(t, dir, "pick-machine.sh", "", dir+"/cdrom")
			fails := c.want == "" || c.says == "stopped"
			if (err != nil) != fails || !strings.Contains(out, c.says) {
				t.Errorf("error %v, said\n%s", err, out)
			}
			result, readErr := os.ReadFile(filepath.Join(dir, "autoinstall.yaml"))
			if readErr != nil {
				t.Fatal(readErr)
			}
			if c.want == "" {
				if string(result) != "shared: 1\n" {
					t.Errorf("the autoinstall is\n%s", result)
				}
				return
			}
			if !strings.Contains(string(result), "hostname: "+c.want+"\n") || !strings.Contains(string(result), "username: 'no'") || strings.Contains(string(result), "autoinstall:") {
				t.Errorf("the autoinstall is\n%s", result)
			}
			ran, _ := os.ReadFile(filepath.Join(dir, "ran"))
			if want := "first\nsecond\n"; !fails && string(ran) != want || fails && string(ran) != "first\n" {
				t.Errorf("its early-commands did %q", ran)
			}
			if name, err := os.ReadFile(filepath.Join(dir, "run", "machine")); err != nil || string(name) != c.want+"\n" {
				t.Errorf("the machine is %q, %v", name, err)
			}
		})
	}
}
