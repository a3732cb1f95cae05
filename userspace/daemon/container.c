/* SPDX-License-Identifier: MIT */
/*
 * Runtimes put the container's id into the name of its cgroup:
 *   docker-ID.scope, docker/ID            Docker, by systemd or by itself
 *   libpod-ID.scope, libpod-ID            podman
 *   cri-containerd-ID.scope, crio-ID.scope, kubepods.../podUID/ID   Kubernetes
 * and a pod's uid into one above it, with '_' for '-' where systemd named it.
 */
#include "daemon/container.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"

enum { ID = 64, UID = 36, STATE_MAX = 4 << 20 };

static const struct {
	const char *before, *runtime;
} marks[] = {
	{"docker-", "docker"},	    {"docker/", "docker"},
	{"cri-containerd-", "containerd"}, {"crio-", "crio"},
	{"libpod-", "podman"},
};

static void name_runtime(const char *cgroup, const char *id, struct container *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		size_t n = strlen(marks[i].before);

		if ((size_t)(id - cgroup) >= n && strncmp(id - n, marks[i].before, n) == 0)
			(void)snprintf(c->runtime, sizeof(c->runtime), "%s", marks[i].runtime);
	}
}

/* "pod" and a uid, before @end. */
static void find_pod(const char *cgroup, const char *end, struct container *c)
{
	const char *p = cgroup;

	while ((p = strstr(p, "pod")) && p + 3 + UID <= end) {
		p += 3;
		if (strspn(p, "0123456789abcdef-_") < UID || (p[8] != '-' && p[8] != '_'))
			continue;
		(void)snprintf(c->pod, sizeof(c->pod), "%.*s", UID, p);
		for (char *q = c->pod; *q; q++)
			*q = *q == '_' ? '-' : *q;
		return;
	}
}

void container_parse(const char *cgroup, struct container *ret)
{
	const char *p = cgroup;

	*ret = (struct container){.id = ""};
	while (*p) {
		size_t n = strspn(p, "0123456789abcdef");

		if (n == ID) {
			(void)snprintf(ret->id, sizeof(ret->id), "%.*s", ID, p);
			name_runtime(cgroup, p, ret);
			find_pod(cgroup, p, ret);
			return;
		}
		p += n ? n : 1;
	}
}

static bool take_image(const json_t *image, struct container *c)
{
	const char *text = json_string_value(image);

	if (!text || !*text)
		return false;
	(void)snprintf(c->image, sizeof(c->image), "%s", text);
	return true;
}

bool container_image_docker(struct slice text, struct container *c)
{
	json_t *o = json_loadb((const char *)text.p, text.n, 0, NULL);
	bool found = take_image(json_object_get(json_object_get(o, "Config"), "Image"), c);

	json_decref(o);
	return found;
}

/* containers.json: a list; "metadata" is JSON in a string, with "image-name". */
bool container_image_podman(struct slice text, struct container *c)
{
	json_t *list = json_loadb((const char *)text.p, text.n, 0, NULL), *o;
	bool found = false;
	size_t i;

	json_array_foreach(list, i, o)
	{
		const char *id = json_string_value(json_object_get(o, "id"));
		const char *meta = json_string_value(json_object_get(o, "metadata"));
		json_t *m;

		if (!id || strcmp(id, c->id) != 0 || !meta)
			continue;
		m = json_loads(meta, 0, NULL);
		found = take_image(json_object_get(m, "image-name"), c);
		json_decref(m);
		break;
	}
	json_decref(list);
	return found;
}

/* Root's file, in directories that only root writes to: an agent cannot put words into it. */
static bool read_state(const char *path, struct buf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	uint8_t *dst;
	ssize_t n = -1;

	if (fd < 0)
		return false;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == 0 &&
	    !(st.st_mode & 022) && st.st_size > 0 && st.st_size <= STATE_MAX) {
		dst = buf_reserve(out, (size_t)st.st_size);
		n = dst ? read(fd, dst, (size_t)st.st_size) : -1;
		if (n > 0)
			buf_commit(out, (size_t)n);
	}
	close(fd);
	return n > 0;
}

/* podman's storage has a list for each of its drivers, and uses one of them. */
static bool podman_image(struct container *c, struct buf *text)
{
	static const char *const drivers[] = {"overlay", "vfs", "btrfs", "zfs"};
	char path[160];

	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		(void)snprintf(path, sizeof(path),
			       "/var/lib/containers/storage/%s-containers/containers.json",
			       drivers[i]);
		buf_reset(text);
		if (read_state(path, text) && container_image_podman(buf_slice(text), c))
			return true;
	}
	return false;
}

void container_image(struct container *c)
{
	char path[160];
	struct buf text;

	if (!c->id[0])
		return;
	buf_init(&text, STATE_MAX);
	if (strcmp(c->runtime, "docker") == 0) {
		(void)snprintf(path, sizeof(path), "/var/lib/docker/containers/%s/config.v2.json",
			       c->id);
		if (read_state(path, &text))
			(void)!container_image_docker(buf_slice(&text), c);
	} else if (strcmp(c->runtime, "podman") == 0) {
		(void)!podman_image(c, &text);
	}
	buf_done(&text);
}
