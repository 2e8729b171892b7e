// Package apt reads signed Debian package archives, works out which packages an
// installation brings in, pins them in a lock file, and writes the packages of a
// lock as a signed repository of its own, with a software bill of materials.
//
// The path is: Fetch reads the sources' indexes, whose signatures and hashes it
// checks, into an Archive; Archive.Resolve answers a Request with the packages
// that "apt-get install" would bring in; NewLock writes down versions, sizes and
// SHA-256 sums; FetchPackages brings the packages; NewRepository is an fs.FS with
// them, its indexes signed with the fleet's SigningKey; SBOM describes them.
//
// Nothing of an archive is believed before a signature by a pinned key vouched for
// it: the Release file names the hashes of the indexes, these the hashes of the
// packages.
package apt
