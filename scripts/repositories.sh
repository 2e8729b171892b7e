#!/bin/bash
# Sets up the package repositories named in $GPUSTRAP_ETC/repositories, one a line:
#   NAME URL SUITES COMPONENTS FINGERPRINT KEY
# SUITES and COMPONENTS are lists with commas; - stands for none. KEY is an
# https address or a file in $GPUSTRAP_ETC. Each repository is signed by its own
# keyring, which holds the one key with the pinned fingerprint and nothing else.
set -euE -o pipefail
# shellcheck source-path=SCRIPTDIR source=steps.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/steps.sh"

keyrings=/etc/apt/keyrings
archive_keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg

# need_tools installs what fetching and checking keys takes, where it is missing.
need_tools() {
    local missing=()
    command -v gpg >/dev/null || missing+=(gpg)
    if grep -q ' https://[^ ]*$' "$GPUSTRAP_ETC/repositories"; then
        command -v curl >/dev/null || missing+=(curl)
        [ -s /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
    fi
    [ ${#missing[@]} -gt 0 ] || return 0
    step "install ${missing[*]}, to fetch and check keys"
    apt_get update
    apt_install "${missing[@]}"
}

fetch_key() {
    local name=$1 key=$2
    if from_medium && [ -e "$repository/keys/$OFFLINE_SUITE/$name.asc" ]; then
        cp "$repository/keys/$OFFLINE_SUITE/$name.asc" "$work/key"
        return
    fi
    case $key in
    https://*)
        last_command="curl $key"
        curl -fsSL --proto '=https' --retry 5 --retry-connrefused --max-time 120 -o "$work/key" "$key" ||
            fail "cannot download the key of the $name repository from $key" \
                "check the network and the proxy, or give the key in gpustrap.yaml: sources.$name.key"
        ;;
    *) cp "$GPUSTRAP_ETC/$key" "$work/key" ;;
    esac
}

# primary_fingerprints prints those of gpg's list of keys.
primary_fingerprints() {
    awk -F: '$1 == "pub" { primary = 1 } $1 == "fpr" && primary { print $10; primary = 0 }'
}

# make_keyring NAME FINGERPRINT KEY: checks the key, then keeps it in a keyring
# of its own, whose path is set in keyring.
make_keyring() {
    local name=$1 fingerprint=$2 key=$3 home=$work/gnupg found
    keyring=$keyrings/gpustrap-$name.gpg
    if dry_run; then
        say "  would fetch its key from $key and check the fingerprint $fingerprint"
        return
    fi
    fetch_key "$name" "$key"
    rm -rf "$home"
    mkdir -m 700 "$home"
    found=$(gpg --homedir "$home" --batch --with-colons --show-keys "$work/key" | primary_fingerprints) ||
        fail "the key of the $name repository is not an OpenPGP key" "it came from $key"
    if ! grep -qxF "$fingerprint" <<<"$found"; then
        fail "the key of the $name repository has the fingerprint ${found//$'\n'/, }, not $fingerprint" \
            "nothing of this repository is installed; compare both with what its owner publishes"
    fi
    gpg --homedir "$home" --batch --quiet --no-autostart --import "$work/key"
    gpg --homedir "$home" --batch --no-autostart --export "$fingerprint" >"$work/keyring"
    put_file "$work/keyring" "$keyring" 0644
}

# deb822 and one_line print a source in the two forms that apt reads.
deb822() {
    local url=$1 suites=$2 components=$3 keyring=$4
    echo "# Written by gpustrap."
    echo "Types: deb"
    echo "URIs: $url"
    echo "Suites: ${suites//,/ }"
    [ "$components" = - ] || echo "Components: ${components//,/ }"
    echo "Architectures: $UBUNTU_ARCH"
    echo "Signed-By: $keyring"
}

one_line() {
    local url=$1 suites=$2 components=$3 keyring=$4 suite
    [ "$components" != - ] || components=
    echo "# Written by gpustrap."
    for suite in ${suites//,/ }; do
        echo "deb [arch=$UBUNTU_ARCH signed-by=$keyring] $url $suite ${components//,/ }"
    done
}

# source_file NAME: where the repository is written. Ubuntu 22.04 reads
# one-line sources; newer releases deb822.
source_file() {
    case $UBUNTU_RELEASE:$1 in
    22.04:ubuntu) echo /etc/apt/sources.list ;;
    22.04:*) echo "/etc/apt/sources.list.d/gpustrap-$1.list" ;;
    *:ubuntu) echo /etc/apt/sources.list.d/ubuntu.sources ;;
    *) echo "/etc/apt/sources.list.d/gpustrap-$1.sources" ;;
    esac
}

# retire_others URL FILE: switches off other sources of the same repository:
# apt refuses two with different keyrings.
retire_others() {
    local url=${1%/} own=$2 file
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        if [ ! -f "$file" ] || [ "$file" = "$own" ]; then continue; fi
        awk -v url="$url" -v arch="$UBUNTU_ARCH" '{ line = $0; gsub(/\$\(ARCH\)/, arch, line) }
            /^[ \t]*deb/ && index(line, url) { $0 = "# gpustrap has its own: " $0 } { print }' "$file" >"$work/retired"
        put_file "$work/retired" "$file" 0644
    done
    for file in /etc/apt/sources.list.d/*.sources; do
        if [ ! -f "$file" ] || [ "$file" = "$own" ]; then continue; fi
        awk -v url="$url" -v arch="$UBUNTU_ARCH" 'BEGIN { RS = ""; ORS = "\n" } { stanza = $0; gsub(/\$\(ARCH\)/, arch, stanza) }
            NR > 1 { print "" } index(stanza, url) && !/(^|\n)Enabled: no/ { $0 = $0 "\nEnabled: no" } { print }' "$file" >"$work/retired"
        put_file "$work/retired" "$file" 0644
    done
}

# forget_installer_key FINGERPRINT: takes back what the installer of 22.04 had
# to trust for every repository.
forget_installer_key() {
    local old=/etc/apt/trusted.gpg all others
    local gpg=(gpg --homedir "$work" --no-default-keyring --keyring "$old" --batch --no-autostart)
    drop_file /etc/apt/trusted.gpg.d/gpustrap-ubuntu.asc
    [ -f "$old" ] || return 0
    all=$("${gpg[@]}" --with-colons --list-keys | primary_fingerprints)
    grep -qxF "$1" <<<"$all" || return 0
    others=$(grep -vxF "$1" <<<"$all") || true
    if [ -z "$others" ]; then
        drop_file "$old"
        return
    fi
    # shellcheck disable=SC2086 # a list
    "${gpg[@]}" --export $others >"$work/others"
    put_file "$work/others" "$old" 0644
}

# refresh NAME URL FILE: reads this repository's index alone, so that another
# one's trouble is not taken for its own.
refresh() {
    local name=$1 url=$2 file=$3
    ! from_medium || return 0
    step "read the $name repository's index"
    apt_get update -o "Dir::Etc::SourceList=$file" -o Dir::Etc::SourceParts=- \
        -o APT::Get::List-Cleanup=0 -o APT::Update::Error-Mode=any
}

add_repository() {
    local name=$1 url=$2 suites=$3 components=$4 fingerprint=$5 key=$6 file keyring=$archive_keyring
    step "add the $name repository, $url"
    [ "$key" = - ] || make_keyring "$name" "$fingerprint" "$key"
    file=$(source_file "$name")
    retire_others "$url" "$file"
    case $file in
    *.sources) deb822 "$url" "$suites" "$components" "$keyring" | put "$file" 0644 ;;
    *) one_line "$url" "$suites" "$components" "$keyring" | put "$file" 0644 ;;
    esac
    [ "$name" != ubuntu ] || forget_installer_key "$fingerprint"
    refresh "$name" "$url" "$file"
}

# add_component FILE URI COMPONENT: adds the component to those of the file's
# entries that take main from the archive.
add_component() {
    local file=$1 uri=${2%/} component=$3
    case $file in
    *.sources)
        awk -v uri="$uri" -v component="$component" 'BEGIN { RS = "" } NR > 1 { print "" }
            index($0, uri) && match($0, /(^|\n)Components:[^\n]*/) {
                line = substr($0, RSTART, RLENGTH)
                if (line ~ /[ \t]main([ \t]|$)/ && line !~ "[ \t]" component "([ \t]|$)")
                    $0 = substr($0, 1, RSTART + RLENGTH - 1) " " component substr($0, RSTART + RLENGTH)
            } { print }' "$file" >"$work/components"
        ;;
    *)
        awk -v uri="$uri" -v component="$component" '/^[ \t]*deb[ \t]/ && index($0, uri) &&
            / main( |$)/ && $0 !~ " " component "( |$)" { $0 = $0 " " component } { print }' "$file" >"$work/components"
        ;;
    esac
    put_file "$work/components" "$file" 0644
}

# need_components adds those of the Ubuntu archive's components that drivers
# come from and that the machine's sources leave out.
# shellcheck disable=SC2016 # $(…) is apt's
need_components() {
    local have missing=() component file uri
    words "$GPU_COMPONENTS"
    if [ ${#list[@]} = 0 ] || from_medium; then return; fi
    # A site's own archive has been set up with all of them, whatever it calls itself.
    ! grep -q '^ubuntu ' "$GPUSTRAP_ETC/repositories" || return 0
    have=$(apt-get indextargets --format '$(ORIGIN) $(COMPONENT)' 'Created-By: Packages' | sort -u)
    for component in "${list[@]}"; do
        grep -qxF "Ubuntu $component" <<<"$have" || missing+=("$component")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    step "add the archive's ${missing[*]}"
    apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(SOURCESENTRY) $(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Ubuntu main \(.*\):[0-9]* /\1 /p' | sort -u >"$work/main"
    [ -s "$work/main" ] ||
        fail "the machine has no Ubuntu archive among its package sources" "give one in gpustrap.yaml: sources.ubuntu"
    while read -r file uri; do
        for component in "${missing[@]}"; do
            add_component "$file" "$uri" "$component"
        done
    done <"$work/main"
    apt_get update
}

# keep_versions holds apt to the lock, before anything is installed: packages that
# others bring in too, but none that the machine has in a newer version already.
keep_versions() {
    [ -e "$GPUSTRAP_ETC/versions" ] || return 0
    step "keep to the locked versions of $(wc -l <"$GPUSTRAP_ETC/versions") packages"
    {
        echo "# Written by gpustrap for the installation, and removed at its end."
        awk -F= '{ printf "\nPackage: %s\nPin: version %s\nPin-Priority: 990\n", $1, substr($0, length($1) + 2) }' "$GPUSTRAP_ETC/versions"
    } | put /etc/apt/preferences.d/00gpustrap-lock.pref 0644
}

keep_versions
need_tools
if ! dry_run; then
    mkdir -p "$keyrings"
fi
while read -r name url suites components fingerprint key; do
    add_repository "$name" "$url" "$suites" "$components" "$fingerprint" "$key"
done <"$GPUSTRAP_ETC/repositories"
preferences=/etc/apt/preferences.d/gpustrap.pref
if [ -f "$GPUSTRAP_ETC/preferences" ]; then
    step "pin packages to the repository that they are taken from"
    put_file "$GPUSTRAP_ETC/preferences" "$preferences" 0644
else
    drop_file "$preferences"
fi
step "read the package indexes"
apt_get update
need_components
