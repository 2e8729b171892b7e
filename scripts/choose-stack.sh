#!/bin/sh
# Chooses the driver stack by the PCI ids of a machine's NVIDIA devices, from the
# table that the resolver wrote (package gpu, AutoTable), as the resolver would.
#   choose-stack.sh TABLE
# Standard input has one machine a line: the PCI ids of its NVIDIA devices,
# separated by spaces, one for each device. Standard output has one line for each:
# branch, flavour, packages, services, kernel modules and repositories, separated
# by tabs, "-" for none; or "error" and what is wrong.
set -eu

choose_stack() {
    awk -F '|' '
    function add(list, more,   n, i, words) {
        if (more == "-") return list
        n = split(more, words, " ")
        for (i = 1; i <= n; i++)
            if (index(" " list " ", " " words[i] " ") == 0)
                list = list == "" ? words[i] : list " " words[i]
        return list
    }
    function or_dash(s) { return s == "" ? "-" : s }
    function choose(   n, ids, i, gpus, s, fits, from, found, set, key, p, v, m, r) {
        n = split($0, ids, " ")
        gpus = 0
        split("", from); split("", found)
        for (i = 1; i <= n; i++) {
            if (ids[i] in switches) { found[switches[ids[i]]] = 1; continue }
            if (!(ids[i] in stacks_of)) return "error\tno GPU with the PCI id " ids[i] " is known"
            if (stacks_of[ids[i]] == "-") return "error\tno driver for " product[ids[i]]
            gpus++
            if (set_of[ids[i]] != "-") from[set_of[ids[i]]] = from_of[ids[i]]
        }
        if (gpus == 0) return "error\tno GPU"
        for (s = 1; s <= stacks; s++) {
            fits = 1
            for (i = 1; i <= n; i++)
                if (!(ids[i] in switches) && index("," stacks_of[ids[i]] ",", "," id[s] ",") == 0) fits = 0
            if (fits) break
        }
        if (s > stacks) return "error\tno stack drives all GPUs"
        p = add("", packages[s]); v = add("", services[s]); m = add("", modules[s]); r = add("", repositories[s])
        for (i = 1; i <= sets; i++) {
            set = set_name[i]
            if (!(set in from) || gpus < from[set] && !(set in found)) continue
            key = set SUBSEP id[s]
            p = add(p, set_packages[key]); v = add(v, set_services[key])
            m = add(m, set_modules[key]); r = add(r, set_repositories[key])
        }
        return branch[s] "\t" flavour[s] "\t" or_dash(p) "\t" or_dash(v) "\t" or_dash(m) "\t" or_dash(r)
    }
    FILENAME == "-" { print choose(); next }
    /^#/ { next }
    $1 == "format" && $2 != "1" { print "error\tthe table has format " $2 ", not 1"; exit 1 }
    $1 == "stack" {
        stacks++
        id[stacks] = $2; branch[stacks] = $3; flavour[stacks] = $4
        packages[stacks] = $5; services[stacks] = $6; modules[stacks] = $7; repositories[stacks] = $8
    }
    $1 == "fabric" {
        if (!($2 in set_seen)) { set_seen[$2] = 1; set_name[++sets] = $2 }
        set_packages[$2, $3] = $4; set_services[$2, $3] = $5
        set_modules[$2, $3] = $6; set_repositories[$2, $3] = $7
    }
    $1 == "switch" { switches[$2] = $3 }
    $1 == "gpu" {
        stacks_of[$2] = $4; set_of[$2] = $5; from_of[$2] = $6; product[$2] = $7
    }' "$1" -
}

choose_stack "$@"
