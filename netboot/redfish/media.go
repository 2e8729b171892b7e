package redfish

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/stmcginnis/gofish/schemas"
)

// minSecret is the length of a part of an image's URL from which on it is taken
// for a token.
const minSecret = 16

// Insert lays an image into the machine's first virtual CD that can be emptied.
// An image that is still there, of an installation before, is ejected first.
func (c *Client) Insert(ctx context.Context, image string) error {
	u, err := url.Parse(image)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("the image has no URL that a BMC could read")
	}
	c.keepSecret(image)
	for _, part := range strings.Split(u.Path, "/") {
		if len(part) >= minSecret {
			c.keepSecret(part)
		}
	}
	slots, err := c.virtualCDs()
	if err != nil {
		return err
	}
	var failed error
	for _, slot := range slots {
		if err := c.empty(ctx, slot); err != nil {
			if ctx.Err() != nil {
				return err
			}
			failed = errors.Join(failed, err)
			continue
		}
		return c.insert(ctx, slot, image)
	}
	return failed
}

// Eject empties every virtual CD that holds the image, or one of the same name. It
// is no error if none does.
func (c *Client) Eject(ctx context.Context, image string) error {
	slots, err := c.virtualCDs()
	if err != nil {
		return err
	}
	var failed error
	for _, slot := range slots {
		if occupied(slot) && holds(slot, image) {
			failed = errors.Join(failed, c.empty(ctx, slot))
		}
	}
	return failed
}

// holds reports whether a slot names an image. Not every BMC shows the URL that it
// was given; the name at its end is the machine's own.
func holds(v *schemas.VirtualMedia, image string) bool {
	name := path.Base(image)
	return v.Image == image || path.Base(v.Image) == name || path.Base(v.ImageName) == name
}

// virtualCDs returns the machine's virtual media that take a CD: those of the
// machine itself, where the schema has them today, and those of its managers.
func (c *Client) virtualCDs() ([]*schemas.VirtualMedia, error) {
	const doing = "list the virtual media"
	slots, failed := c.system.VirtualMedia()
	if !slices.ContainsFunc(slots, takesCD) {
		managers, err := c.system.ManagedBy()
		if len(managers) == 0 {
			managers, err = c.api.Service.Managers()
		}
		failed = errors.Join(failed, err)
		for _, m := range managers {
			more, err := m.VirtualMedia()
			slots, failed = append(slots, more...), errors.Join(failed, err)
		}
	}
	cds := slices.DeleteFunc(slots, func(v *schemas.VirtualMedia) bool { return !takesCD(v) })
	if len(cds) > 0 {
		// The empty ones first; else the order is the BMC's, by name.
		slices.SortStableFunc(cds, func(a, b *schemas.VirtualMedia) int {
			if x, y := occupied(a), occupied(b); x != y {
				if y {
					return -1
				}
				return 1
			}
			return strings.Compare(a.ODataID, b.ODataID)
		})
		return cds, nil
	}
	if failed != nil {
		return nil, c.explain(doing, failed)
	}
	return nil, errors.New("the BMC has no virtual CD; some need a licence for it")
}

// takesCD reports whether a medium can be a CD. BMCs that do not say so name it.
func takesCD(v *schemas.VirtualMedia) bool {
	for _, t := range v.MediaTypes {
		if strings.EqualFold(string(t), "CD") || strings.EqualFold(string(t), "DVD") {
			return true
		}
	}
	name := strings.ToLower(v.ID + " " + v.Name)
	return len(v.MediaTypes) == 0 && (strings.Contains(name, "cd") || strings.Contains(name, "dvd"))
}

// occupied reports whether something is inserted. Some BMCs keep the URL of what
// was ejected, and some never say Inserted.
func occupied(v *schemas.VirtualMedia) bool {
	if v.Inserted != nil {
		return *v.Inserted
	}
	return v.Image != ""
}

func (c *Client) reread(slot *schemas.VirtualMedia) error {
	now, err := schemas.GetVirtualMedia(c.api, slot.ODataID)
	if err != nil {
		return c.explain("read the virtual CD's state", err)
	}
	*slot = *now
	return nil
}

// empty ejects what is in a slot, if anything is.
func (c *Client) empty(ctx context.Context, slot *schemas.VirtualMedia) error {
	const doing = "eject the virtual CD"
	if !occupied(slot) {
		return nil
	}
	if slot.SupportsMediaEject {
		task, err := slot.EjectMedia()
		if err != nil {
			return c.explain(doing, err)
		}
		if err := c.await(ctx, doing, task); err != nil {
			return err
		}
	} else if err := c.patch(slot, map[string]any{"Image": nil, "Inserted": false}); err != nil {
		return c.explain(doing, err)
	}
	gone, err := c.poll(ctx, mediaWait, func() (bool, error) {
		err := c.reread(slot)
		return err == nil && !occupied(slot), err
	})
	if err == nil && !gone {
		return fmt.Errorf("cannot %s: %s still holds an image %s later", doing, printable(slot.ID), mediaWait*pollEvery)
	}
	return err
}

// patch changes a slot that has no action for it. The answer to a stale or
// missing ETag is one more try with a fresh one, and then one without any.
func (c *Client) patch(slot *schemas.VirtualMedia, values map[string]any) error {
	err := slot.Patch(slot.ODataID, values)
	if !wantsETag(err) {
		return err
	}
	if err := c.reread(slot); err != nil {
		return err
	}
	if err = slot.Patch(slot.ODataID, values); wantsETag(err) {
		slot.DisableEtagMatch(true)
		err = slot.Patch(slot.ODataID, values)
	}
	return err
}

func wantsETag(err error) bool {
	var refused *schemas.Error
	return errors.As(err, &refused) && (refused.HTTPReturnedStatusCode == 412 || refused.HTTPReturnedStatusCode == 428)
}

// insert lays an image into an empty slot.
func (c *Client) insert(ctx context.Context, slot *schemas.VirtualMedia, image string) error {
	const doing = "insert the image"
	if slot.SupportsMediaInsert {
		if err := c.insertByAction(ctx, slot, image); err != nil {
			return err
		}
	} else if err := c.patch(slot, map[string]any{"Image": image, "Inserted": true, "WriteProtected": true}); err != nil {
		return c.explain(doing, err)
	}
	there, err := c.poll(ctx, mediaWait, func() (bool, error) {
		err := c.reread(slot)
		return err == nil && occupied(slot), err
	})
	if err == nil && !there {
		return fmt.Errorf("cannot %s: the BMC took its URL and did not mount it within %s: can the BMC reach the server?", doing, mediaWait*pollEvery)
	}
	return err
}

// insertByAction calls InsertMedia with the image alone: BMCs are known that
// refuse Inserted and WriteProtected. What others demand is added one by one
// after a refusal, as sushy does.
func (c *Client) insertByAction(ctx context.Context, slot *schemas.VirtualMedia, image string) error {
	const doing = "insert the image"
	protocol, stream, none := schemas.HTTPTransferProtocolType, schemas.StreamTransferMethod, "none"
	if strings.HasPrefix(image, "https:") {
		protocol = schemas.HTTPSTransferProtocolType
	}
	values := schemas.VirtualMediaInsertMediaParameters{Image: image}
	more := []func(){
		func() { values.TransferProtocolType = &protocol },
		func() { values.TransferMethod = &stream },
		func() { values.UserName, values.Password = &none, &none },
	}
	for {
		task, err := slot.InsertMedia(&values)
		if err == nil {
			return c.await(ctx, doing, task)
		}
		if len(more) == 0 || !wantsMore(err) {
			return c.explain(doing, err)
		}
		more[0]()
		more = more[1:]
	}
}

// wantsMore reports whether an action was refused for how it was called.
func wantsMore(err error) bool {
	var refused *schemas.Error
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.HTTPReturnedStatusCode {
	case 400, 422, 500:
		return true
	}
	return false
}
