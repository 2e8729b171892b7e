package config

import (
	"fmt"
	"regexp"
	"strings"
)

// belongsElsewhere names packages that a GPU machine is better off without, and
// what to use instead. The host has driver, engine and toolkit; CUDA and what is
// built on it live in containers, each with the version that its program wants.
var belongsElsewhere = []struct {
	names   *regexp.Regexp
	summary string // follows the package's name
	detail  string
}{
	{regexp.MustCompile(`^(cuda(-[0-9]+-[0-9]+)?|cuda-(runtime|demo-suite)(-[0-9]+-[0-9]+)?)$`),
		"puts CUDA on the host, and a driver beside the one that gpu asks for",
		"leave it out; containers bring CUDA with them: use the image nvidia/cuda, with a tag such as 13.0.0-runtime-ubuntu24.04"},
	{regexp.MustCompile(`^(nvidia-)?cuda-(toolkit|compiler|nvcc|cudart|libraries|tools|nvml-dev|documentation)(-.*)?$`),
		"puts CUDA's development tools on the host, in one version for everybody",
		"leave it out and build in a container: use the image nvidia/cuda, with a tag such as 13.0.0-devel-ubuntu24.04"},
	{regexp.MustCompile(`^(lib)?(cudnn|nccl|cublas|cufft|curand|cusolver|cusparse|nvinfer)[0-9-].*$|^(cudnn|tensorrt)$`),
		"puts a library of CUDA's on the host, where containers do not see it",
		"leave it out; use the image nvidia/cuda, with a tag such as 13.0.0-cudnn-devel-ubuntu24.04"},
	{regexp.MustCompile(`^(python3-(torch|torchvision|torchaudio|pytorch.*|jax|jaxlib|cupy|transformers)|pytorch)$`),
		"puts a machine learning framework on the host, in one version for everybody",
		"leave it out; use the image nvcr.io/nvidia/pytorch or pytorch/pytorch"},
	{regexp.MustCompile(`^python3-(tensorflow.*|keras)$`),
		"puts a machine learning framework on the host, in one version for everybody",
		"leave it out; use the image nvcr.io/nvidia/tensorflow or tensorflow/tensorflow"},
	{regexp.MustCompile(`^(cuda-drivers|nvidia-(driver|headless|dkms|utils|open|kernel|compute-utils|fabricmanager)|libnvidia-(compute|gl|decode|encode)|linux-modules-nvidia)(-.*)?$`),
		"is a part of the driver, which is worked out from gpu",
		"leave it out; gpu.driver, gpu.modules and gpu.display say which driver it is, and `gpustrap explain` shows its packages"},
}

// conflicting are packages that apt cannot have beside Docker CE.
var conflicting = regexp.MustCompile(`^(docker\.io|docker-doc|podman-docker|containerd|runc)$`)

// checkPackages warns of packages that belong into a container, and refuses
// those that would take Docker away again.
func (r *resolver) checkPackages(packages list[text], docker bool, path string) {
	for i, p := range packages.items {
		name, _, _ := strings.Cut(p.v, "=")
		at := under(path, fmt.Sprintf("packages[%d]", i))
		if docker && conflicting.MatchString(name) {
			r.error(p.at, at, name+" takes the place of Docker CE, which docker installs", "leave it out, or write docker: off")
		}
		for _, rule := range belongsElsewhere {
			if rule.names.MatchString(name) {
				r.warn(p.at, at, name+" "+rule.summary, rule.detail)
			}
		}
	}
}
