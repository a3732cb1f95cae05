/* SPDX-License-Identifier: MIT */
/* The parent's state as a whole, and the start of the binary that goes on with it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "config/cfgheld.h"
#include "daemon/accel.h"
#include "daemon/audit.h"
#include "daemon/children.h"
#include "daemon/downtime.h"
#include "daemon/eventsock.h"
#include "daemon/fdstore.h"
#include "daemon/glogin.h"
#include "daemon/grants.h"
#include "daemon/hand.h"
#include "daemon/integrity.h"
#include "daemon/learned.h"
#include "daemon/listeners.h"
#include "daemon/memfd.h"
#include "daemon/netns.h"
#include "daemon/ready.h"
#include "daemon/receipts.h"
#include "daemon/registry.h"
#include "daemon/reload.h"
#include "daemon/roles.h"
#include "daemon/upgrade.h"
#include "daemon/whois.h"
#include "kern/kern.h"

/* ------------------------------------------------------------- compatibility */

static uint64_t reasons_hash(uint32_t n)
{
	uint64_t hash = 0;

	for (uint32_t i = 0; i < n && i < TG_R_COUNT; i++)
		hash = text_hash(hash, reason_label((uint16_t)i));
	return hash;
}

enum { SPEC_STATS = offsetof(struct worker_stats, syncs) + sizeof(uint64_t) };

void handover_spec(char *dst, size_t cap)
{
	(void)snprintf(dst, cap, "%d %u:%llx %u:%llx %zu:%zu " TIDEGATE_VERSION, HANDOVER_VERSION,
		       (unsigned)IPC_TYPE_COUNT, (unsigned long long)ipc_types_hash(IPC_TYPE_COUNT),
		       (unsigned)TG_R_COUNT, (unsigned long long)reasons_hash(TG_R_COUNT),
		       (size_t)SPEC_STATS, sizeof(struct journal_stats));
}

/*
 * What the other has must be the beginning of what is here: its workers go on, and
 * say and understand what they always did.
 */
bool handover_accepts(const char *spec, char *why, size_t cap)
{
	unsigned types, reasons;
	unsigned long long types_hash, reasons_sum;
	size_t stats, journal;
	const char *what = NULL;
	int version;

	if (sscanf(spec, "%d %u:%llx %u:%llx %zu:%zu", &version, &types, &types_hash, &reasons,
		   &reasons_sum, &stats, &journal) != 7)
		what = "what the running one says of itself";
	else if (version != HANDOVER_VERSION)
		what = "the state of the running one";
	else if (types > IPC_TYPE_COUNT || ipc_types_hash(types) != types_hash)
		what = "the messages of the running workers";
	else if (reasons > TG_R_COUNT || reasons_hash(reasons) != reasons_sum)
		what = "the reasons of the running workers";
	else if (stats > SPEC_STATS || journal > sizeof(struct journal_stats))
		what = "the counters of the running workers";
	if (what)
		(void)snprintf(why, cap, "version " TIDEGATE_VERSION " does not understand %s: restart "
					 "the daemon instead, its sessions have 30 s to finish", what);
	return !what;
}

/* As the binary that comes will have it. */
static int check_config(struct config **ret, struct buf *error)
{
	static const char name[] = "the configuration in force";
	struct config *start = NULL;
	int rc = reload_parse(HANDOVER_CFG_FD, name, ret, error);

	if (rc) {
		if (!error->n)
			(void)!buf_printf(error, "the configuration: %s", strerror(-rc));
		return rc;
	}
	/* A binary from before there was one does not give it. */
	if (fcntl(HANDOVER_START_FD, F_GETFD) < 0)
		return 0;
	rc = reload_parse(HANDOVER_START_FD, name, &start, error);
	if (!rc)
		rc = config_hold(*ret, start, AT_START);
	if (start)
		config_free(start);
	if (rc)
		config_free(*ret);
	return rc;
}

static int check(const char *spec, struct kern_progs *ready, struct buf *error)
{
	struct config *cfg = NULL;
	char why[256];
	int rc;

	if (!handover_accepts(spec, why, sizeof(why))) {
		(void)!buf_printf(error, "%s", why);
		return -EPROTO;
	}
	rc = check_config(&cfg, error);
	if (!rc) {
		rc = children_accounts(cfg, error);
		if (rc)
			config_free(cfg);
	}
	if (!rc && cfg->bpf != BPF_OFF) {
		struct kern_paths paths = {.bpf_dir = cfg->bpf_dir, .cgroup_root = cfg->cgroup_root};

		rc = kern_try(&paths, ready, error);
		/* Without BPF it runs as before if the running one has none either. */
		if (rc && cfg->bpf == BPF_AUTO && rc == -ENOENT)
			rc = 0;
	}
	config_free(rc ? NULL : cfg);
	return rc;
}

int handover_check(const char *spec)
{
	struct kern_progs ready = {0};
	struct buf error;
	int rc;

	buf_init(&error, 65536);
	rc = check(spec, &ready, &error);
	if (rc && !error.n)
		(void)!buf_printf(&error, "%s", strerror(-rc));
	if (rc)
		fprintf(stderr, "%.*s\n", (int)error.n, (const char *)buf_data(&error));
	else
		ready_send(STDOUT_FILENO, &ready);
	kern_progs_close(&ready);
	buf_done(&error);
	return rc ? 1 : 0;
}

/* ------------------------------------------------------------------- writing */

static void save_counters(struct parent *p, struct hand *h, json_t *root)
{
	json_t *reasons = json_object(), *told = json_array();

	for (unsigned i = 0; i < TG_R_COUNT; i++)
		if (p->reason[i])
			hand_put_u64(h, reasons, reason_label((uint16_t)i), p->reason[i]);
	for (unsigned i = 0; i < TG_K_COUNT; i++)
		(void)json_array_append_new(told, json_integer((json_int_t)p->refused_told[i]));
	hand_put(h, root, "reasons", reasons);
	hand_put(h, root, "told", told);
	hand_put_bool(h, root, "refused_known", p->refused_known);
	hand_put_bool(h, root, "sweep_failed", p->sweep_failed);
	hand_put_u64(h, root, "audit_lost", p->audit_lost);
}

static void save_all(struct parent *p, struct hand *h, json_t *root)
{
	hand_put_u64(h, root, "handover", HANDOVER_VERSION);
	hand_put_str(h, root, "version", TIDEGATE_VERSION);
	hand_put_fd(h, root, "config", p->cfg_fd);
	hand_put_fd(h, root, "start_config", p->start_fd);
	hand_put_u64(h, root, "generation", p->generation);
	hand_put_u64(h, root, "loaded", p->loaded_wall_ns);
	hand_put_u64(h, root, "since", p->since_wall_ns);
	hand_put_u64(h, root, "upgrades", p->upgrades);
	hand_put_u64(h, root, "next_id", p->next_id);
	hand_put_bool(h, root, "bpf", p->kern != NULL);
	hand_put_slice(h, root, "mask_key", slice_of(p->mask_key, sizeof(p->mask_key)));
	save_counters(p, h, root);
	hand_put(h, root, "own", listener_set_save(h, &p->own));
	targets_hand(p, h, root);
	listeners_save(p, h, root);
	fdstore_save(p->store, h, root);
	learned_save(p, h, root);
	netns_save(p, h, root);
	children_save(p, h, root);
	registry_save(p, h, root);
	grants_save(p, h, root);
	glogin_save(p, h, root);
	roles_save(p, h, root);
	receipts_save(p, h, root);
	eventsock_save(p, h, root);
	control_save(p, h, root);
	metrics_save(p, h, root);
	integrity_save(p, h, root);
}

int handover_save(struct parent *p, struct hand *h, const struct ready *ready, struct slice said)
{
	json_t *root = json_object();
	char *text;
	int fd = -ENOMEM;

	save_all(p, h, root);
	ready_save(h, root, ready, said);
	text = h->why[0] ? NULL : json_dumps(root, JSON_COMPACT);
	json_decref(root);
	if (h->why[0])
		log_error("upgrade: %s cannot be written down", h->why);
	if (text) {
		fd = memfd_from("tidegate-handover", slice_str(text));
		explicit_bzero(text, strlen(text));
	}
	free(text);
	if (fd >= 0)
		hand_keep_fds(&(struct hand){.fds = &fd, .nfds = 1}, true);
	return fd;
}

/* ------------------------------------------------------------------- reading */

static void take_counters(struct parent *p, struct hand *h, const json_t *root)
{
	const json_t *reasons = json_object_get(root, "reasons"), *told;

	for (unsigned i = 0; i < TG_R_COUNT; i++)
		p->reason[i] = (uint64_t)json_integer_value(
			json_object_get(reasons, reason_label((uint16_t)i)));
	told = hand_list(h, root, "told");
	for (unsigned i = 0; i < TG_K_COUNT; i++)
		p->refused_told[i] = (uint64_t)json_integer_value(json_array_get(told, i));
	p->refused_known = hand_bool(h, root, "refused_known");
	p->sweep_failed = hand_bool(h, root, "sweep_failed");
	p->audit_lost = hand_u64(h, root, "audit_lost");
}

static void take_numbers(struct parent *p, struct hand *h, const json_t *root)
{
	if (hand_u64(h, root, "handover") != HANDOVER_VERSION)
		hand_fail(h, "handover");
	hand_str(h, root, "version", p->version_before, sizeof(p->version_before));
	p->cfg_fd = hand_fd(h, root, "config");
	if (hand_has(root, "start_config"))
		p->start_fd = hand_fd(h, root, "start_config");
	else if (reload_remember(p))
		hand_fail(h, "start_config");
	p->generation = hand_u64(h, root, "generation");
	p->loaded_wall_ns = hand_u64(h, root, "loaded");
	p->since_wall_ns = hand_u64(h, root, "since");
	p->upgrades = (uint32_t)hand_u64(h, root, "upgrades") + 1;
	p->upgraded_wall_ns = clock_wall_ns();
	p->next_id = hand_u64(h, root, "next_id");
	hand_bytes(h, root, "mask_key", p->mask_key, sizeof(p->mask_key));
	take_counters(p, h, root);
}

static int read_state(int fd, json_t **ret)
{
	struct slice text;
	int rc = memfd_map(fd, &text);

	if (rc)
		return rc;
	*ret = json_loadb((const char *)text.p, text.n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
	memfd_unmap(text);
	close(fd);
	return *ret ? 0 : -EBADMSG;
}

static int failed(const struct hand *h)
{
	if (!h->why[0])
		return 0;
	log_error("the state of the binary before is not understood: %s", h->why);
	return -EBADMSG;
}

/* Kernel side and maps, as in a start; programs are replaced in their links. */
static int take_kernel(struct parent *p, struct hand *h, const json_t *root, struct buf *error)
{
	bool had = hand_bool(h, root, "bpf");
	struct kern_progs ready;
	int rc;

	p->own = (struct listener_set){.tcp4 = -1, .tcp6 = -1, .dns = {-1, -1, -1, -1}};
	ready_take(h, root, &ready);
	if (had && ready.n)
		log_info("%zu programs that the check has loaded are taken", ready.n);
	if (had)
		parent_try_kernel(p, &ready);
	kern_progs_close(&ready);
	/* The binary before steered: what it left pinned would have nobody who looks after it. */
	if (had && !p->kern)
		return -EPERM;
	if (had)
		listener_set_take(h, json_object_get(root, "own"), &p->own);
	targets_take(p, h, root);
	rc = learned_init(p);
	if (rc)
		return rc;
	learned_take(p, h, root);
	rc = failed(h);
	return rc ? rc : targets_apply(p, error);
}

static int take_rest(struct parent *p, struct hand *h, const json_t *root)
{
	int rc = roles_start(p);

	if (rc)
		return rc;
	fdstore_take(p->store, h, root);
	listeners_take(p, h, root);
	children_take(p, h, root);
	registry_take(p, h, root);
	grants_take(p, h, root);
	glogin_take(p, h, root);
	roles_take(p, h, root);
	receipts_take(p, h, root);
	eventsock_take(p, h, root);
	rc = control_take(p, h, root);
	if (!rc)
		rc = metrics_take(p, h, root);
	if (!rc && p->kern)
		rc = listener_set_steer(p, &p->own);
	if (!rc && p->kern)
		netns_take(p, h, root);
	if (!rc)
		rc = failed(h);
	if (!rc)
		rc = children_start_new(p);
	if (!rc)
		rc = learned_apply(p);
	if (!rc && p->kern)
		rc = netns_start(p);
	return rc;
}

static void tell(struct parent *p, struct hand *h, const json_t *root)
{
	uint32_t sessions = HASH_COUNT(p->sessions), old = children_retired(p);

	sessions_tell_again(p);
	grants_ask_again(p);
	accel_start(p);
	downtime_resume(p);
	integrity_start(p);
	integrity_take(p, h, root);
	listeners_keep(p);
	log_notice("upgraded from %s to " TIDEGATE_VERSION ": %u sessions go on in %u workers of the "
		   "binary before", p->version_before, sessions, old);
	(void)audit_write(p, AUDIT_SYNC, "daemon.upgrade", "{s:s, s:s, s:i, s:i, s:s}", "version",
			  TIDEGATE_VERSION, "before", p->version_before, "pid", (int)getpid(),
			  "sessions", (int)sessions, "policy", policy_digest(p->cfg->policy));
	control_upgraded(p,
			 json_pack("{s:s, s:s, s:i, s:i, s:i}", "version", TIDEGATE_VERSION, "before",
				   p->version_before, "pid", (int)getpid(), "sessions",
				   (int)sessions, "workers_before", (int)old),
			 NULL);
}

int handover_take(struct parent *p, int fd)
{
	struct hand h = {0};
	struct buf error;
	json_t *root = NULL;
	int rc = read_state(fd, &root);

	buf_init(&error, 1 << 20);
	if (!rc) {
		take_numbers(p, &h, root);
		rc = failed(&h);
	}
	if (!rc)
		rc = reload_take(p, &error);
	if (!rc) {
		log_configure(p->cfg->log_level);
		rc = parent_make_dirs(p);
	}
	if (!rc)
		parent_start_audit(p);
	if (!rc)
		rc = take_kernel(p, &h, root, &error);
	if (!rc)
		rc = take_rest(p, &h, root);
	if (error.n)
		log_warning("%.*s", (int)error.n - 1, (const char *)buf_data(&error));
	buf_done(&error);
	if (!rc)
		tell(p, &h, root);
	json_decref(root);
	return rc;
}
