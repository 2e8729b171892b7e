package redfish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stmcginnis/gofish/schemas"
)

// Mode is the kind of firmware that boots the image.
type Mode string

// The modes.
const (
	UEFI   Mode = "uefi"
	Legacy Mode = "legacy"
)

// usbCD is a boot source that the schema does not have and BMCs do.
const usbCD schemas.BootSource = "UsbCd"

// BootOnce makes the next boot, and no other, one from the virtual CD.
func (c *Client) BootOnce(mode Mode) error {
	if err := c.refresh(); err != nil {
		return err
	}
	boot := schemas.Boot{BootSourceOverrideEnabled: schemas.OnceBootSourceOverrideEnabled, BootSourceOverrideTarget: c.bootSource()}
	switch mode {
	case UEFI:
		boot.BootSourceOverrideMode = schemas.UEFIBootSourceOverrideMode
	case Legacy:
		boot.BootSourceOverrideMode = schemas.LegacyBootSourceOverrideMode
	}
	if c.system.Boot.BootSourceOverrideMode == boot.BootSourceOverrideMode {
		boot.BootSourceOverrideMode = "" // as it is; some refuse the key whatever its value
	}
	err := c.system.SetBoot(&boot)
	if wantsETag(err) {
		if err := c.refresh(); err != nil {
			return err
		}
		if err = c.system.SetBoot(&boot); wantsETag(err) {
			c.system.DisableEtagMatch(true)
			err = c.system.SetBoot(&boot)
		}
	}
	if err != nil {
		return c.explain("set the next boot", err)
	}
	return nil
}

// bootSource returns the name under which the machine knows its virtual CD.
// Supermicro's is a USB CD: with Cd it boots the disk (sushy,
// resources/system/system.py).
func (c *Client) bootSource() schemas.BootSource {
	allowed := c.system.Boot.AllowableBootSourceOverrideTargetValues
	usb := slices.Contains(allowed, usbCD)
	if usb && (strings.EqualFold(c.system.Manufacturer, "supermicro") || !slices.Contains(allowed, schemas.CdBootSource)) {
		return usbCD
	}
	return schemas.CdBootSource
}

// PowerCycle starts the machine anew. A system that runs is asked to shut down
// first, so that disks which are to be kept are unmounted; what does not obey
// within two minutes is cut off.
func (c *Client) PowerCycle(ctx context.Context) error {
	if err := c.refresh(); err != nil {
		return err
	}
	allowed, err := c.system.GetSupportedResetTypes()
	if err != nil {
		allowed = nil // it does not say, so any is tried
	}
	can := func(t schemas.ResetType) bool { return len(allowed) == 0 || slices.Contains(allowed, t) }
	if c.off() {
		return c.switchOn(ctx, can)
	}
	if can(schemas.GracefulShutdownResetType) {
		err := c.reset(ctx, "shut the machine down", schemas.GracefulShutdownResetType)
		var refused *RefusedError
		if err != nil && !errors.As(err, &refused) {
			return err
		}
		if err == nil {
			down, err := c.untilOff(ctx, shutdownWait)
			if err != nil {
				return err
			}
			if down {
				return c.switchOn(ctx, can)
			}
		}
	}
	for _, t := range []schemas.ResetType{schemas.ForceRestartResetType, schemas.PowerCycleResetType} {
		if can(t) {
			return c.reset(ctx, "restart the machine", t)
		}
	}
	if err := c.reset(ctx, "switch the machine off", schemas.ForceOffResetType); err != nil {
		return err
	}
	down, err := c.untilOff(ctx, powerWait)
	if err == nil && !down {
		err = fmt.Errorf("cannot restart the machine: it is not off %s after its power was cut", powerWait*pollEvery)
	}
	if err != nil {
		return err
	}
	return c.switchOn(ctx, can)
}

func (c *Client) off() bool { return c.system.PowerState == schemas.OffPowerState }

func (c *Client) untilOff(ctx context.Context, times int) (bool, error) {
	return c.poll(ctx, times, func() (bool, error) {
		err := c.refresh()
		return err == nil && c.off(), err
	})
}

func (c *Client) switchOn(ctx context.Context, can func(schemas.ResetType) bool) error {
	how := schemas.OnResetType
	if !can(how) {
		for _, t := range []schemas.ResetType{schemas.ForceOnResetType, schemas.PowerCycleResetType, schemas.PushPowerButtonResetType} {
			if can(t) {
				how = t
				break
			}
		}
	}
	return c.reset(ctx, "switch the machine on", how)
}

func (c *Client) reset(ctx context.Context, doing string, t schemas.ResetType) error {
	task, err := c.system.Reset(t)
	if err != nil {
		return c.explain(doing, err)
	}
	return c.await(ctx, doing, task)
}
