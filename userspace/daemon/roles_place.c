/* SPDX-License-Identifier: MIT */
/*
 * Where roles may have been left by a daemon that was killed: each target that has a credential of that
 * kind, at its literal addresses, and wherever a role was ever made (roles.json in the state folder).
 * They are looked through at the start and from time to time.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/address.h"
#include "daemon/roles.h"

#define ROLES_FILE "roles.json"

enum { PLACES_MAX = 4096, MACHINE_ID = 64 };

/* ------------------------------------------------------------------ the file */

static void file_path(const struct parent *p, const char *tail, char *dst, size_t cap)
{
	(void)snprintf(dst, cap, "%s/" ROLES_FILE "%s", p->cfg->state_dir, tail);
}

static json_t *places_json(const struct parent *p)
{
	json_t *list = json_array();

	list_each(it, &p->roles->places) {
		const struct role_place *l = container_of(it, struct role_place, link);

		if (l->remembered)
			(void)json_array_append_new(
				list, json_pack("{s:s, s:s, s:s}", "target", l->target, "credential",
						l->credential, "server", l->upstream));
	}
	return list;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600), rc = 0;
	size_t n = strlen(text);

	if (fd < 0)
		return -errno;
	if (write(fd, text, n) != (ssize_t)n || fsync(fd))
		rc = errno ? -errno : -EIO;
	close(fd);
	return rc;
}

/* Replaced by rename: nobody sees half of it. */
static int save(struct parent *p)
{
	json_t *o = json_pack("{s:i, s:s, s:o}", "version", 1, "instance", p->roles->instance, "places",
			      places_json(p));
	char *text = json_dumps(o, JSON_INDENT(1));
	char fresh[512], path[512];
	int rc = text ? 0 : -ENOMEM;

	file_path(p, ".new", fresh, sizeof(fresh));
	file_path(p, "", path, sizeof(path));
	if (!rc)
		rc = write_file(fresh, text);
	if (!rc && rename(fresh, path))
		rc = -errno;
	if (rc)
		log_error("%s: %s: roles that a killed daemon leaves may not be found", path,
			  strerror(-rc));
	json_decref(o);
	free(text);
	return rc;
}

static struct role_place *place_get(struct parent *p, const char *target, const char *credential,
				    const char *upstream)
{
	struct role_place *l;
	uint32_t n = 0;

	list_each(it, &p->roles->places) {
		l = container_of(it, struct role_place, link);
		n++;
		if (strcmp(l->target, target) == 0 && strcmp(l->credential, credential) == 0 &&
		    strcmp(l->upstream, upstream) == 0)
			return l;
	}
	l = n < PLACES_MAX ? calloc(1, sizeof(*l)) : NULL;
	if (!l)
		return NULL;
	list_init(&l->link);
	(void)snprintf(l->target, sizeof(l->target), "%s", target);
	(void)snprintf(l->credential, sizeof(l->credential), "%s", credential);
	(void)snprintf(l->upstream, sizeof(l->upstream), "%s", upstream);
	list_add_tail(&p->roles->places, &l->link);
	return l;
}

static void read_places(struct parent *p, const json_t *list)
{
	json_t *o;
	size_t i;

	json_array_foreach(list, i, o)
	{
		const char *target = json_string_value(json_object_get(o, "target"));
		const char *credential = json_string_value(json_object_get(o, "credential"));
		const char *server = json_string_value(json_object_get(o, "server"));
		struct role_place *l = target && credential && server
					       ? place_get(p, target, credential, server)
					       : NULL;

		if (l)
			l->remembered = true;
	}
}

/*
 * A copy of this host has the same files, but its own machine-id: neither takes the other's roles
 * for its own.
 */
static void make_mark(struct roles *r)
{
	char text[sizeof(r->instance) + MACHINE_ID] = "", hex[2 * SHA256_DIGEST_LENGTH + 1];
	int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
	uint8_t md[SHA256_DIGEST_LENGTH];
	size_t n = (size_t)snprintf(text, sizeof(text), "%s", r->instance);

	if (fd >= 0) {
		ssize_t got = read(fd, text + n, MACHINE_ID);

		n += got > 0 ? (size_t)got : 0;
		close(fd);
	}
	(void)SHA256((const uint8_t *)text, n, md);
	text_hex(md, sizeof(md), hex);
	(void)snprintf(r->mark, sizeof(r->mark), "tidegate %.16s", hex);
}

int role_places_load(struct parent *p)
{
	const char *instance;
	char path[512];
	uint8_t random[16];
	json_t *o;
	int rc = 0;

	file_path(p, "", path, sizeof(path));
	o = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
	instance = json_string_value(json_object_get(o, "instance"));
	if (instance && strlen(instance) == sizeof(p->roles->instance) - 1) {
		memcpy(p->roles->instance, instance, sizeof(p->roles->instance));
		read_places(p, json_object_get(o, "places"));
	} else {
		if (access(path, F_OK) == 0)
			log_error("%s cannot be read: what an earlier daemon left is not found", path);
		random_bytes(random, sizeof(random));
		text_hex(random, sizeof(random), p->roles->instance);
		rc = roles_wanted(p->cfg) ? save(p) : 0;
	}
	json_decref(o);
	make_mark(p->roles);
	role_places_update(p);
	return rc;
}

/* -------------------------------------------------------------------- places */

static void place_of_address(struct parent *p, const struct cfg_target *t, const struct cfg_addr *a)
{
	struct role_place *l;
	char text[ADDRESS_TEXT];

	if (!a->literal || !a->port || a->prefix != 128)
		return;
	for (uint32_t i = 0; i < a->naddrs; i++) {
		address_format_mapped(a->addrs[i].s6_addr, a->port, text);
		l = place_get(p, t->name, t->credential, text);
		if (l)
			l->configured = true;
	}
}

static void places_of(struct parent *p, const struct cfg_target *t)
{
	char text[512];
	struct role_place *l;

	if (!t->socket) {
		for (uint32_t i = 0; i < t->naddrs; i++)
			place_of_address(p, t, &t->addrs[i]);
		return;
	}
	(void)snprintf(text, sizeof(text), "unix:%s", t->socket);
	l = place_get(p, t->name, t->credential, text);
	if (l)
		l->configured = true;
}

void role_places_update(struct parent *p)
{
	list_each(it, &p->roles->places)
		container_of(it, struct role_place, link)->configured = false;
	for (uint32_t i = 0; i < p->cfg->ntargets; i++)
		if (p->cfg->targets[i].login && p->cfg->targets[i].login->role.admin)
			places_of(p, &p->cfg->targets[i]);
	list_each(it, &p->roles->places) {
		struct role_place *l = container_of(it, struct role_place, link);

		if (l->configured || l->remembered)
			continue;
		list_del(&l->link);
		free(l);
	}
}

void role_place_seen(struct parent *p, const struct prole *r)
{
	struct role_place *l = place_get(p, r->target, r->credential, r->upstream);

	if (!l || l->remembered)
		return;
	l->remembered = true;
	if (!l->due_boot_ns) /* where we have just been */
		l->due_boot_ns = role_retry_at(6);
	(void)save(p);
}

/* -------------------------------------------------------------------- sweeps */

static void order_sweep(struct parent *p, struct role_place *l, const struct cfg_credential *c)
{
	struct role_job j = {
		.kind = ROLE_JOB_SWEEP,
		.target = slice_str(l->target),
		.credential = slice_str(l->credential),
		.upstream = slice_str(l->upstream),
		.database = slice_str(c->role.database ? c->role.database : "postgres"),
		.mark = slice_str(p->roles->mark),
	};

	l->order = ++p->next_id;
	ipc_begin(p->roled.ipc, IPC_ROLE_JOB, l->order);
	role_job_put(p->roled.ipc, &j);
	ipc_send(p->roled.ipc);
}

void role_places_tick(struct parent *p)
{
	uint64_t now = clock_boot_ns();

	list_each(it, &p->roles->places) {
		struct role_place *l = container_of(it, struct role_place, link);
		const struct cfg_credential *c = config_credential(p->cfg, slice_str(l->credential));

		/* One that is not configured any more has no administrator either. */
		if (!l->order && now >= l->due_boot_ns && c && c->role.login)
			order_sweep(p, l, c);
	}
}

void role_place_done(struct parent *p, struct role_place *l, enum role_job_error error,
		     const char *words, struct ipc_msg *m, uint32_t n)
{
	const struct cfg_credential *c = config_credential(p->cfg, slice_str(l->credential));

	l->order = 0;
	for (uint32_t i = 0; i < n && !m->bad; i++)
		role_left(p, l, ipc_get_str(m));
	if (!ipc_end(m)) {
		m->bad = true;
		return;
	}
	if (!error) {
		l->why[0] = '\0';
		l->tries = 0;
		l->due_boot_ns = clock_boot_ns() + (c ? c->role.sweep_ms : 60000) * 1000000;
		return;
	}
	if (!l->why[0])
		log_warning("target %s (%s) cannot be asked for roles that were left behind, and will be "
			    "again: %s", l->target, l->upstream, words);
	(void)snprintf(l->why, sizeof(l->why), "%s", words);
	l->due_boot_ns = role_retry_at(l->tries++);
}
