// Package redfishtest is a BMC that speaks Redfish, for tests. Its resources and
// actions are those of the DMTF's schemas (DSP0266; ServiceRoot, ComputerSystem,
// Manager, VirtualMedia, Session, Task), its quirks are those that users of real
// BMCs reported. It is no copy of any vendor's: no real BMC was at hand.
package redfishtest

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Options are what BMCs do differently. The zero Options are those of the
// schema, with the virtual media at the manager.
type Options struct {
	TLS              bool // with a certificate of its own making
	NoSessions       bool // every request carries the password
	MediaUnderSystem bool // as the schema has it since ComputerSystem 1.13
	LowerCase        bool // resource names in lower case: /redfish/v1/systems
	Systems          int  // machines at this BMC; 0: one

	PatchOnly         bool // no InsertMedia and EjectMedia: the resource is changed (Lenovo XCC, old iLO)
	NeedETag          bool // changes without If-Match are refused
	NeedProtocol      bool // TransferProtocolType must be given (iDRAC)
	NeedMethod        bool // and TransferMethod
	NeedCredentials   bool // and UserName and Password
	RefuseOptional    bool // Inserted and WriteProtected are refused (Supermicro X11)
	KeepImage         bool // the image's URL stays after EjectMedia (Supermicro)
	HideImage         bool // the image's name is shown, and not its URL
	RefuseOccupied    bool // InsertMedia is refused while something is inserted
	Slow              int  // actions answer 202; the task is done after so many questions
	FailTask          bool // and then has failed
	NeverMount        bool // the image cannot be reached: it is never inserted
	USBCD             bool // Supermicro: the virtual CD is UsbCd
	IgnoreShutdown    bool // the system does not obey GracefulShutdown
	NoShutdown        bool // and it is not offered
	EchoesCredentials bool // errors repeat what was sent

	// Boot, where set, is called when the machine boots the image, in a goroutine.
	Boot func(image string)
}

// The user and password of every BMC here.
const (
	User     = "admin"
	Password = "correct-horse-battery"
)

// BMC is a running mock.
type BMC struct {
	URL         string
	Certificate []byte // DER; nil without TLS

	options  Options
	server   *httptest.Server
	mutex    sync.Mutex
	image    string
	inserted bool
	power    string
	boot     map[string]string // override: Enabled, Target, Mode
	etag     int
	sessions map[string]string // id -> token
	ids      int
	tasks    map[string]*task
	requests []string
	booted   []string
}

type task struct {
	left int
	then func()
}

// New starts a BMC, which ends with the test.
func New(t testing.TB, options Options) *BMC {
	t.Helper()
	b := &BMC{
		options: options, power: "On", sessions: map[string]string{}, tasks: map[string]*task{},
		boot: map[string]string{"Enabled": "Disabled", "Target": "None", "Mode": "UEFI"},
	}
	b.server = httptest.NewUnstartedServer(b)
	b.server.Config.ErrorLog = log.New(io.Discard, "", 0) // refused certificates are part of the tests
	if options.TLS {
		b.server.StartTLS()
		b.Certificate = b.server.Certificate().Raw
	} else {
		b.server.Start()
	}
	b.URL = b.server.URL
	t.Cleanup(b.server.Close)
	return b
}

// State is what a person standing before the machine would see.
type State struct {
	Image    string // in the virtual CD; empty: none inserted
	Power    string // On or Off
	Next     string // the source of the next boot: a target, or None
	Sessions int    // open ones
	Booted   []string
}

// State returns the state. Booted lists what the machine booted, in order: an
// image's URL, or "disk".
func (b *BMC) State() State {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	s := State{Power: b.power, Next: b.boot["Target"], Sessions: len(b.sessions), Booted: append([]string(nil), b.booted...)}
	if b.boot["Enabled"] == "Disabled" {
		s.Next = "None"
	}
	if b.inserted {
		s.Image = b.image
	}
	return s
}

// Put lays an image into the virtual CD, as somebody before did.
func (b *BMC) Put(image string) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.image, b.inserted = image, true
}

// Off switches the machine off.
func (b *BMC) Off() {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.power = "Off"
}

// Requests lists what was asked: methods and paths.
func (b *BMC) Requests() []string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return append([]string(nil), b.requests...)
}

// path writes a resource's path as this BMC does.
func (b *BMC) path(parts ...string) string {
	p := "/redfish/v1"
	for _, part := range parts {
		p += "/" + part
	}
	if b.options.LowerCase {
		return strings.ToLower(p)
	}
	return p
}

func link(path string) map[string]any { return map[string]any{"@odata.id": path} }

// ServeHTTP is the BMC's only door.
func (b *BMC) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.requests = append(b.requests, r.Method+" "+r.URL.Path)
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	values := map[string]any{}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &values); err != nil {
			b.refuse(w, 400, "Base.1.5.MalformedJSON", "the body is no JSON", "")
			return
		}
	}
	path := strings.TrimSuffix(r.URL.Path, "/")
	open := path == b.path() || path == b.path("SessionService", "Sessions") && r.Method == http.MethodPost
	if !open && !b.allowed(r) {
		b.refuse(w, 401, "Base.1.5.NoValidSession", "no session", "")
		return
	}
	w.Header().Set("OData-Version", "4.0")
	switch r.Method {
	case http.MethodGet:
		b.get(w, path)
	case http.MethodPost:
		b.post(w, path, values, string(body))
	case http.MethodPatch:
		b.patch(w, r, path, values)
	case http.MethodDelete:
		id := path[strings.LastIndexByte(path, '/')+1:]
		if _, ok := b.sessions[id]; !ok {
			b.refuse(w, 404, "Base.1.5.ResourceMissingAtURI", "no such session", "")
			return
		}
		delete(b.sessions, id)
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

func (b *BMC) allowed(r *http.Request) bool {
	if token := r.Header.Get("X-Auth-Token"); token != "" && !b.options.NoSessions {
		for _, known := range b.sessions {
			if subtle.ConstantTimeCompare([]byte(known), []byte(token)) == 1 {
				return true
			}
		}
		return false
	}
	user, password, ok := r.BasicAuth()
	return ok && user == User && password == Password
}

func (b *BMC) answer(w http.ResponseWriter, value map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // the client went away
}

// refuse answers with an error as DSP0266 has it ("Error responses").
func (b *BMC) refuse(w http.ResponseWriter, status int, id, message, property string) {
	info := map[string]any{"MessageId": id, "Message": message, "RelatedProperties": []string{}}
	if property != "" {
		info["RelatedProperties"] = []string{"#/" + property}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{ // the client went away
		"code": id, "message": message, "@Message.ExtendedInfo": []any{info}}})
}

func (b *BMC) systemCount() int { return max(1, b.options.Systems) }

func (b *BMC) get(w http.ResponseWriter, path string) {
	switch path {
	case b.path():
		b.answer(w, b.root())
		return
	case b.path("SessionService"):
		b.answer(w, map[string]any{"@odata.id": path, "Id": "SessionService", "Name": "Sessions", "ServiceEnabled": true, "SessionTimeout": 300,
			"Sessions": link(b.path("SessionService", "Sessions"))})
		return
	case b.path("Systems"):
		var members []string
		for i := range b.systemCount() {
			members = append(members, b.path("Systems", strconv.Itoa(i+1)))
		}
		b.collection(w, path, "ComputerSystem", members...)
		return
	case b.path("Managers"):
		b.collection(w, path, "Manager", b.path("Managers", "BMC"))
		return
	case b.path("Managers", "BMC"):
		b.answer(w, b.manager(path))
		return
	case b.media():
		b.collection(w, path, "VirtualMedia", path+b.slot("Floppy1"), path+b.slot("CD1"))
		return
	case b.media() + b.slot("Floppy1"):
		b.answer(w, map[string]any{"@odata.id": path, "@odata.type": "#VirtualMedia.v1_3_0.VirtualMedia", "Id": "Floppy1", "Name": "Virtual floppy",
			"MediaTypes": []string{"Floppy", "USBStick"}, "Image": nil, "Inserted": false})
		return
	case b.cd():
		w.Header().Set("ETag", b.tag())
		if b.options.PatchOnly {
			w.Header().Set("Allow", "GET, HEAD, PATCH")
		}
		b.answer(w, b.medium(path))
		return
	}
	for i := range b.systemCount() {
		if path == b.path("Systems", strconv.Itoa(i+1)) {
			w.Header().Set("ETag", b.tag())
			b.answer(w, b.system(path, i+1))
			return
		}
	}
	if id, ok := strings.CutPrefix(path, b.path("TaskService", "Tasks")+"/"); ok && b.tasks[id] != nil {
		b.work(w, path, id)
		return
	}
	b.refuse(w, 404, "Base.1.5.ResourceMissingAtURI", "there is nothing at "+path, "")
}

func (b *BMC) tag() string { return fmt.Sprintf(`"%d"`, b.etag) }

func (b *BMC) slot(name string) string {
	if b.options.LowerCase {
		name = strings.ToLower(name)
	}
	return "/" + name
}

// media is the path of the collection of virtual media.
func (b *BMC) media() string {
	if b.options.MediaUnderSystem {
		return b.path("Systems", "1", "VirtualMedia")
	}
	return b.path("Managers", "BMC", "VirtualMedia")
}

func (b *BMC) cd() string { return b.media() + b.slot("CD1") }

func (b *BMC) root() map[string]any {
	root := map[string]any{
		"@odata.id": b.path() + "/", "@odata.type": "#ServiceRoot.v1_5_0.ServiceRoot", "Id": "RootService", "Name": "Root", "RedfishVersion": "1.8.0",
		"UUID": "92384634-2938-2342-8820-489239905423", "Systems": link(b.path("Systems")), "Managers": link(b.path("Managers")),
	}
	if !b.options.NoSessions {
		root["SessionService"] = link(b.path("SessionService"))
		root["Links"] = map[string]any{"Sessions": link(b.path("SessionService", "Sessions"))}
	}
	return root
}

func (b *BMC) collection(w http.ResponseWriter, path, kind string, members ...string) {
	links := make([]any, len(members))
	for i, m := range members {
		links[i] = link(m)
	}
	b.answer(w, map[string]any{"@odata.id": path, "@odata.type": "#" + kind + "Collection." + kind + "Collection", "Name": kind + "s",
		"Members@odata.count": len(members), "Members": links})
}

func (b *BMC) manager(path string) map[string]any {
	m := map[string]any{"@odata.id": path, "@odata.type": "#Manager.v1_5_0.Manager", "Id": "BMC", "Name": "Manager", "ManagerType": "BMC",
		"Links": map[string]any{"ManagerForServers": []any{link(b.path("Systems", "1"))}}}
	if !b.options.MediaUnderSystem {
		m["VirtualMedia"] = link(b.media())
	}
	return m
}

func (b *BMC) system(path string, number int) map[string]any {
	targets := []string{"None", "Pxe", "Hdd", "Cd", "BiosSetup"}
	maker := "Example"
	if b.options.USBCD {
		targets, maker = append(targets, "UsbCd"), "Supermicro"
	}
	resets := []string{"On", "ForceOff", "ForceRestart", "GracefulShutdown"}
	if b.options.NoShutdown {
		resets = []string{"On", "ForceOff", "GracefulRestart", "ForceRestart"}
	}
	s := map[string]any{
		"@odata.id": path, "@odata.type": "#ComputerSystem.v1_13_0.ComputerSystem", "Id": strconv.Itoa(number), "Name": "System",
		"SystemType": "Physical", "Manufacturer": maker, "Model": "GPU 8000", "SerialNumber": fmt.Sprintf("S%07d", number),
		"UUID": fmt.Sprintf("00000000-0000-0000-0000-%012d", number), "PowerState": b.power,
		"Boot": map[string]any{
			"BootSourceOverrideEnabled": b.boot["Enabled"], "BootSourceOverrideTarget": b.boot["Target"], "BootSourceOverrideMode": b.boot["Mode"],
			"BootSourceOverrideTarget@Redfish.AllowableValues": targets,
		},
		"Links": map[string]any{"ManagedBy": []any{link(b.path("Managers", "BMC"))}},
		"Actions": map[string]any{"#ComputerSystem.Reset": map[string]any{
			"target": path + "/Actions/ComputerSystem.Reset", "ResetType@Redfish.AllowableValues": resets}},
	}
	if b.options.MediaUnderSystem && number == 1 {
		s["VirtualMedia"] = link(b.media())
	}
	return s
}

func (b *BMC) medium(path string) map[string]any {
	m := map[string]any{
		"@odata.id": path, "@odata.type": "#VirtualMedia.v1_3_0.VirtualMedia", "Id": "CD1", "Name": "Virtual CD", "MediaTypes": []string{"CD", "DVD"},
		"Image": nil, "ImageName": "", "Inserted": b.inserted, "WriteProtected": true, "ConnectedVia": "NotConnected",
	}
	switch {
	case b.image == "":
	case b.options.HideImage:
		m["ImageName"] = b.image[strings.LastIndexByte(b.image, '/')+1:]
	default:
		m["Image"] = b.image
	}
	if b.inserted {
		m["ConnectedVia"] = "URI"
	}
	if !b.options.PatchOnly {
		m["Actions"] = map[string]any{
			"#VirtualMedia.InsertMedia": map[string]any{"target": path + "/Actions/VirtualMedia.InsertMedia"},
			"#VirtualMedia.EjectMedia":  map[string]any{"target": path + "/Actions/VirtualMedia.EjectMedia"},
		}
	}
	return m
}
