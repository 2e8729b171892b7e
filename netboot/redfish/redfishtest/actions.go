package redfishtest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

func (b *BMC) post(w http.ResponseWriter, path string, values map[string]any, body string) {
	switch {
	case path == b.path("SessionService", "Sessions") && !b.options.NoSessions:
		b.login(w, path, values, body)
	case path == b.cd()+"/Actions/VirtualMedia.InsertMedia" && !b.options.PatchOnly:
		if b.acceptable(w, values) {
			image, _ := values["Image"].(string)
			b.do(w, func() { b.insert(image) })
		}
	case path == b.cd()+"/Actions/VirtualMedia.EjectMedia" && !b.options.PatchOnly:
		b.do(w, b.eject)
	case strings.HasPrefix(path, b.path("Systems")+"/") && strings.HasSuffix(path, "/Actions/ComputerSystem.Reset"):
		how, _ := values["ResetType"].(string)
		b.reset(w, how)
	default:
		b.refuse(w, 404, "Base.1.5.ResourceMissingAtURI", "there is nothing at "+path, "")
	}
}

func (b *BMC) login(w http.ResponseWriter, path string, values map[string]any, body string) {
	if values["UserName"] != User || values["Password"] != Password {
		message := "the user or the password is wrong"
		if b.options.EchoesCredentials {
			message += ": " + body
		}
		b.refuse(w, 400, "Base.1.5.PropertyValueError", message, "")
		return
	}
	b.ids++
	id := "s" + strconv.Itoa(b.ids)
	b.sessions[id] = "token-" + id
	w.Header().Set("X-Auth-Token", b.sessions[id])
	w.Header().Set("Location", path+"/"+id)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	b.answer(w, map[string]any{"@odata.id": path + "/" + id, "Id": id, "Name": "Session", "UserName": User})
}

// acceptable holds InsertMedia's parameters against what this BMC takes.
func (b *BMC) acceptable(w http.ResponseWriter, values map[string]any) bool {
	missing := func(name string) bool {
		if _, ok := values[name]; ok {
			return false
		}
		b.refuse(w, 400, "Base.1.5.ActionParameterMissing", "the action InsertMedia requires the parameter "+name, name)
		return true
	}
	o := b.options
	for _, name := range []string{"Inserted", "WriteProtected"} {
		if _, ok := values[name]; ok && o.RefuseOptional {
			b.refuse(w, 400, "Base.1.5.ActionParameterUnknown", "the parameter "+name+" is unknown", name)
			return false
		}
	}
	switch {
	case missing("Image"), o.NeedProtocol && missing("TransferProtocolType"), o.NeedMethod && missing("TransferMethod"),
		o.NeedCredentials && (missing("UserName") || missing("Password")):
		return false
	case o.RefuseOccupied && b.inserted:
		b.refuse(w, 500, "Base.1.5.ResourceInUse", "the virtual media is in use", "")
		return false
	case o.EchoesCredentials:
		image, _ := values["Image"].(string)
		b.refuse(w, 404, "Base.1.5.ResourceMissingAtURI", "cannot open "+image, "")
		return false
	}
	return true
}

func (b *BMC) insert(image string) {
	b.etag++
	b.image, b.inserted = image, !b.options.NeverMount
}

func (b *BMC) eject() {
	b.etag++
	b.inserted = false
	if !b.options.KeepImage {
		b.image = ""
	}
}

// do does something at once, or as a task.
func (b *BMC) do(w http.ResponseWriter, what func()) {
	if b.options.Slow == 0 {
		what()
		w.WriteHeader(http.StatusNoContent)
		return
	}
	b.ids++
	id := strconv.Itoa(b.ids)
	b.tasks[id] = &task{b.options.Slow, what}
	path := b.path("TaskService", "Tasks", id)
	w.Header().Set("Location", path)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	b.answer(w, map[string]any{"@odata.id": path, "@odata.type": "#Task.v1_4_0.Task", "Id": id, "Name": "Task", "TaskState": "New"})
}

// work is a question for a task, which brings it nearer to its end.
func (b *BMC) work(w http.ResponseWriter, path, id string) {
	t := b.tasks[id]
	state := "Running"
	if t.left--; t.left <= 0 {
		state = "Completed"
		if b.options.FailTask {
			state = "Exception"
		} else if t.then != nil {
			t.then()
			t.then = nil
		}
	}
	b.answer(w, map[string]any{"@odata.id": path, "@odata.type": "#Task.v1_4_0.Task", "Id": id, "Name": "Task", "TaskState": state,
		"Messages": []any{map[string]any{"Message": "the image was looked for", "MessageId": "Example.1.0.Looked"}}})
}

func (b *BMC) patch(w http.ResponseWriter, r *http.Request, path string, values map[string]any) {
	if b.options.NeedETag {
		switch given := r.Header.Get("If-Match"); {
		case given == "":
			b.refuse(w, 428, "Base.1.5.PreconditionRequired", "If-Match is required", "")
			return
		case given != b.tag() && given != "*":
			b.refuse(w, 412, "Base.1.5.PreconditionFailed", "the ETag is not the current one", "")
			return
		}
	}
	switch {
	case path == b.cd() && b.options.PatchOnly:
		switch image := values["Image"].(type) {
		case string:
			if values["Inserted"] != true {
				b.refuse(w, 400, "Base.1.5.PropertyMissing", "Inserted is missing", "Inserted")
				return
			}
			b.insert(image)
		default:
			b.eject()
		}
	case strings.HasPrefix(path, b.path("Systems")+"/"):
		boot, _ := values["Boot"].(map[string]any)
		allowed := []string{"None", "Pxe", "Hdd", "Cd", "BiosSetup", "UsbCd"}
		for _, key := range []string{"Enabled", "Target", "Mode"} {
			text, ok := boot["BootSourceOverride"+key].(string)
			if key == "Target" && ok && !slices.Contains(allowed, text) {
				b.refuse(w, 400, "Base.1.5.PropertyValueNotInList", "no such boot source: "+text, "Boot/BootSourceOverrideTarget")
				return
			}
			if ok {
				b.boot[key] = text
			}
		}
		b.etag++
	default:
		b.refuse(w, 405, "Base.1.5.OperationNotAllowed", "this cannot be changed", "")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (b *BMC) reset(w http.ResponseWriter, how string) {
	on := b.power == "On"
	switch {
	case how == "On" && !on:
		b.power = "On"
		b.start()
	case how == "GracefulShutdown" && on && !b.options.NoShutdown:
		if !b.options.IgnoreShutdown {
			b.power = "Off"
		}
	case how == "ForceOff":
		b.power = "Off"
	case how == "ForceRestart" && on, how == "PowerCycle" && on:
		b.start()
	default:
		b.refuse(w, 409, "Base.1.5.ActionNotSupported", "the machine is "+b.power+", so "+how+" is not supported", "ResetType")
		return
	}
	b.etag++
	w.WriteHeader(http.StatusNoContent)
}

// start boots the machine: from the virtual CD once, where that was set, else
// from its disk.
func (b *BMC) start() {
	target, booted := b.boot["Target"], "disk"
	want := "Cd"
	if b.options.USBCD {
		want = "UsbCd" // with Cd this vendor's boots its disk
	}
	if b.boot["Enabled"] == "Once" {
		b.boot["Enabled"] = "Disabled"
		if target == want && b.inserted {
			booted = b.image
		}
	}
	b.booted = append(b.booted, booted)
	if b.options.Boot != nil && booted != "disk" {
		go b.options.Boot(booted)
	}
}
