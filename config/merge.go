package config

import "gopkg.in/yaml.v3"

// The rule of inheritance, the same at every level (top level, then a profile
// and what it extends, then the machine): a scalar replaces the inherited one,
// a list replaces the inherited list, a mapping is merged key by key. Keys of
// which only one may stand (gpu's model, pci and auto; storage's disk and disks, and its layout and config; a user's
// password_hash and password_file; network's interface and mac, and its keys of
// one interface and of several) replace each
// other. `off` switches a section off and keeps what it inherits, so that a
// mapping further down switches it on again.

// latest returns over where it is set, and base otherwise.
func latest[V any](base, over value[V]) value[V] {
	if over.set() {
		return over
	}
	return base
}

func latestList[V any](base, over list[V]) list[V] {
	if over.set() {
		return over
	}
	return base
}

// mergeSection merges two mappings with the function that knows their keys. A
// mapping that stands alone is shared, never copied: nobody changes one after
// it was decoded.
func mergeSection[T any](base, over *T, merge func(base, over T) T) *T {
	switch {
	case base == nil:
		return over
	case over == nil:
		return base
	}
	merged := merge(*base, *over)
	return &merged
}

func mergeSettings(base, over settings) settings {
	return settings{
		gaps:         base.gaps || over.gaps,
		ubuntu:       latest(base.ubuntu, over.ubuntu),
		arch:         latest(base.arch, over.arch),
		hostname:     latest(base.hostname, over.hostname),
		user:         mergeSection(base.user, over.user, mergeUser),
		users:        latestList(base.users, over.users),
		locale:       latest(base.locale, over.locale),
		timezone:     latest(base.timezone, over.timezone),
		keyboard:     mergeSection(base.keyboard, over.keyboard, mergeKeyboard),
		gpu:          mergeSection(base.gpu, over.gpu, mergeGPU),
		docker:       mergeSection(base.docker, over.docker, mergeDocker),
		toolkit:      mergeSection(base.toolkit, over.toolkit, mergeToolkit),
		storage:      mergeSection(base.storage, over.storage, mergeStorage),
		network:      mergeSection(base.network, over.network, mergeNetwork),
		packages:     latestList(base.packages, over.packages),
		apps:         latestList(base.apps, over.apps),
		sources:      mergeSection(base.sources, over.sources, mergeSources),
		ready:        mergeSection(base.ready, over.ready, mergeReady),
		proxy:        mergeSection(base.proxy, over.proxy, mergeProxy),
		caCerts:      latestList(base.caCerts, over.caCerts),
		ntp:          latestList(base.ntp, over.ntp),
		kernelArgs:   latestList(base.kernelArgs, over.kernelArgs),
		files:        latestList(base.files, over.files),
		lateCommands: latestList(base.lateCommands, over.lateCommands),
		firstBoot:    latestList(base.firstBoot, over.firstBoot),
		boot:         mergeSection(base.boot, over.boot, mergeBoot),
		after:        latest(base.after, over.after),
		offline:      latest(base.offline, over.offline),
		autoinstall:  mergeAutoinstall(base.autoinstall, over.autoinstall),
		reinstall:    latest(base.reinstall, over.reinstall),
		report:       latest(base.report, over.report),
		bmc:          mergeSection(base.bmc, over.bmc, mergeBMC),
	}
}

func mergeUser(base, over userKeys) userKeys {
	password := base.password
	if over.password.set() {
		password = over.password
	}
	return userKeys{
		section:        base.under(over.section),
		name:           latest(base.name, over.name),
		fullName:       latest(base.fullName, over.fullName),
		password:       password,
		authorizedKeys: latestList(base.authorizedKeys, over.authorizedKeys),
		groups:         latestList(base.groups, over.groups),
		sudo:           latest(base.sudo, over.sudo),
		docker:         latest(base.docker, over.docker),
		shell:          latest(base.shell, over.shell),
	}
}

func mergeKeyboard(base, over keyboardKeys) keyboardKeys {
	return keyboardKeys{
		section: base.under(over.section),
		layout:  latest(base.layout, over.layout),
		variant: latest(base.variant, over.variant),
		toggle:  latest(base.toggle, over.toggle),
	}
}

func mergeGPU(base, over gpuKeys) gpuKeys {
	merged := gpuKeys{
		section:       base.under(over.section),
		on:            latest(base.on, over.on),
		model:         base.model,
		pci:           base.pci,
		auto:          base.auto,
		count:         latest(base.count, over.count),
		driver:        latest(base.driver, over.driver),
		modules:       latest(base.modules, over.modules),
		source:        latest(base.source, over.source),
		secureBoot:    latest(base.secureBoot, over.secureBoot),
		kernel:        latest(base.kernel, over.kernel),
		fabricManager: latest(base.fabricManager, over.fabricManager),
		display:       latest(base.display, over.display),
		dcgm:          latest(base.dcgm, over.dcgm),
		persistence:   latest(base.persistence, over.persistence),
		mig:           latestList(base.mig, over.mig),
		powerLimit:    latest(base.powerLimit, over.powerLimit),
		override:      mergeSection(base.override, over.override, mergeOverride),
	}
	if over.model.set() || over.pci.set() || over.auto.set() {
		merged.model, merged.pci, merged.auto = over.model, over.pci, over.auto
	}
	return merged
}

func mergeOverride(base, over overrideKeys) overrideKeys {
	return overrideKeys{section: base.under(over.section), reason: latest(base.reason, over.reason)}
}

func mergeDocker(base, over dockerKeys) dockerKeys {
	return dockerKeys{
		section:      base.under(over.section),
		on:           latest(base.on, over.on),
		version:      latest(base.version, over.version),
		dataRoot:     latest(base.dataRoot, over.dataRoot),
		log:          mergeSection(base.log, over.log, mergeLog),
		liveRestore:  latest(base.liveRestore, over.liveRestore),
		shmSize:      latest(base.shmSize, over.shmSize),
		publish:      latest(base.publish, over.publish),
		addressPools: latestList(base.addressPools, over.addressPools),
		mirrors:      latestList(base.mirrors, over.mirrors),
		prune:        mergeSection(base.prune, over.prune, mergePrune),
	}
}

func mergePrune(base, over pruneKeys) pruneKeys {
	return pruneKeys{
		section: base.under(over.section),
		on:      latest(base.on, over.on),
		every:   latest(base.every, over.every),
		days:    latest(base.days, over.days),
	}
}

func mergeLog(base, over logKeys) logKeys {
	return logKeys{
		section:  base.under(over.section),
		maxSize:  latest(base.maxSize, over.maxSize),
		maxFiles: latest(base.maxFiles, over.maxFiles),
	}
}

func mergeToolkit(base, over toolkitKeys) toolkitKeys {
	return toolkitKeys{
		section: base.under(over.section),
		on:      latest(base.on, over.on),
		version: latest(base.version, over.version),
	}
}

func mergeStorage(base, over storageKeys) storageKeys {
	merged := storageKeys{
		section:    base.under(over.section),
		layout:     base.layout,
		disk:       base.disk,
		disks:      base.disks,
		encryption: mergeSection(base.encryption, over.encryption, mergeEncryption),
		boot:       latest(base.boot, over.boot),
		swap:       latest(base.swap, over.swap),
		data:       latestList(base.data, over.data),
		config:     base.config,
	}
	if over.disk != nil || over.disks.set() {
		merged.disk, merged.disks = over.disk, over.disks
	}
	if over.layout.set() || over.config.set() {
		merged.layout, merged.config = over.layout, over.config
	}
	return merged
}

func mergeEncryption(base, over encryptionKeys) encryptionKeys {
	return encryptionKeys{
		section: base.under(over.section),
		on:      latest(base.on, over.on),
		key:     latest(base.key, over.key),
		tpm:     mergeSection(base.tpm, over.tpm, mergeTPM),
	}
}

func mergeTPM(base, over tpmKeys) tpmKeys {
	return tpmKeys{
		section:  base.under(over.section),
		on:       latest(base.on, over.on),
		pcrs:     latestList(base.pcrs, over.pcrs),
		recovery: latest(base.recovery, over.recovery),
	}
}

func mergeNetwork(base, over networkKeys) networkKeys {
	if over.interfaces.set() || over.bonds.set() || over.vlans.set() { // what is inherited of one interface is no longer meant
		base = networkKeys{section: base.section, interfaces: base.interfaces, bonds: base.bonds, vlans: base.vlans}
	}
	merged := networkKeys{
		section:     base.under(over.section),
		iface:       base.iface,
		mac:         base.mac,
		dhcp:        latest(base.dhcp, over.dhcp),
		addresses:   latestList(base.addresses, over.addresses),
		gateway:     latest(base.gateway, over.gateway),
		nameservers: latestList(base.nameservers, over.nameservers),
		search:      latestList(base.search, over.search),
		mtu:         latest(base.mtu, over.mtu),
		optional:    latest(base.optional, over.optional),
		interfaces:  latestList(base.interfaces, over.interfaces),
		bonds:       latestList(base.bonds, over.bonds),
		vlans:       latestList(base.vlans, over.vlans),
	}
	if over.iface.set() || over.mac.set() {
		merged.iface, merged.mac = over.iface, over.mac
	}
	return merged
}

func mergeSources(base, over sourcesKeys) sourcesKeys {
	return sourcesKeys{
		section: base.under(over.section),
		ubuntu:  mergeSection(base.ubuntu, over.ubuntu, mergeSource),
		docker:  mergeSection(base.docker, over.docker, mergeSource),
		toolkit: mergeSection(base.toolkit, over.toolkit, mergeSource),
		cuda:    mergeSection(base.cuda, over.cuda, mergeSource),
	}
}

func mergeSource(base, over sourceKeys) sourceKeys {
	return sourceKeys{
		section:     base.under(over.section),
		url:         latest(base.url, over.url),
		suite:       latest(base.suite, over.suite),
		key:         latest(base.key, over.key),
		fingerprint: latest(base.fingerprint, over.fingerprint),
	}
}

func mergeReady(base, over readyKeys) readyKeys {
	return readyKeys{
		section: base.under(over.section),
		report:  latest(base.report, over.report),
		token:   latest(base.token, over.token),
		dcgmi:   latest(base.dcgmi, over.dcgmi),
	}
}

func mergeBoot(base, over bootKeys) bootKeys {
	return bootKeys{
		section: base.under(over.section),
		confirm: latest(base.confirm, over.confirm),
		timeout: latest(base.timeout, over.timeout),
	}
}

func mergeAutoinstall(base, over value[*yaml.Node]) value[*yaml.Node] {
	if !base.ok() || !over.ok() {
		return latest(base, over)
	}
	over.v = mergeNodes(base.v, over.v)
	return over
}

// mergeNodes merges two mapping nodes key by key, the mappings below them as
// well, and replaces everything else. The arguments stay as they are. Keys keep
// the order in which they were first written.
func mergeNodes(base, over *yaml.Node) *yaml.Node {
	if base.Kind != yaml.MappingNode || over.Kind != yaml.MappingNode {
		return over
	}
	merged := *over
	merged.Content = append([]*yaml.Node(nil), base.Content...)
	index := make(map[string]int, len(base.Content)/2)
	for i := 0; i+1 < len(base.Content); i += 2 {
		index[base.Content[i].Value] = i
	}
	for i := 0; i+1 < len(over.Content); i += 2 {
		key, val := over.Content[i], over.Content[i+1]
		if at, ok := index[key.Value]; ok {
			merged.Content[at] = key
			merged.Content[at+1] = mergeNodes(merged.Content[at+1], val)
			continue
		}
		merged.Content = append(merged.Content, key, val)
	}
	return &merged
}

func mergeProxy(base, over proxyKeys) proxyKeys {
	return proxyKeys{
		section: base.under(over.section),
		on:      latest(base.on, over.on),
		url:     latest(base.url, over.url),
		except:  latestList(base.except, over.except),
	}
}
