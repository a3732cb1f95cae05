/* SPDX-License-Identifier: MIT */
/* Which container a process is in, as far as its cgroup's path and the runtime's files say. */
#ifndef TIDEGATE_DAEMON_CONTAINER_H
#define TIDEGATE_DAEMON_CONTAINER_H

#include "base/compiler.h"
#include "base/slice.h"

struct container {
	char id[65];	   /* 64 hexadecimal digits; empty: no container */
	char runtime[16];  /* "docker", "podman", "containerd", "crio"; empty: unknown */
	char pod[40];	   /* uid of a Kubernetes pod; empty: none */
	char image[256];   /* empty: unknown */
};

/*
 * The outermost container of @cgroup: an agent may name cgroups below its own as it
 * likes, never those above.
 */
void container_parse(const char *cgroup, struct container *ret);
/* Fills in the image where podman or docker keep it on this host. */
void container_image(struct container *c);
/* The same from the text of docker's config.v2.json or podman's containers.json. */
MUST_CHECK bool container_image_docker(struct slice json, struct container *c);
MUST_CHECK bool container_image_podman(struct slice json, struct container *c);

#endif
