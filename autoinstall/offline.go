package autoinstall

// The repository on the installation medium, as the installed system sees it during
// late-commands. The installer has taken the medium out of that system by then, so
// it is mounted there a second time.
const (
	mediumOnTarget = "/var/lib/gpustrap/medium"

	showMedium = `medium="$TARGET_MOUNT_POINT` + mediumOnTarget + `"
if [ -d "${GPUSTRAP_MEDIUM:=/cdrom/gpustrap}" ]; then
    mkdir -p "$medium"
    mount --bind "$GPUSTRAP_MEDIUM" "$medium"
fi
`
	hideMedium = `medium="$TARGET_MOUNT_POINT` + mediumOnTarget + `"
if [ -d "$medium" ]; then
    umount "$medium"
    rmdir "$medium"
fi
`
)
