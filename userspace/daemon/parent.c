/* SPDX-License-Identifier: MIT */
/* Starting, reloading and stopping the daemon. */
#include "daemon/agentrules.h"
#include "daemon/eventsock.h"
#include "daemon/fdstore.h"
#include "daemon/grants.h"
#include "daemon/registry.h"
#include "daemon/roles.h"
#include "daemon/accel.h"
#include "daemon/alive.h"
#include "daemon/parent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/audit.h"
#include "daemon/children.h"
#include "daemon/downtime.h"
#include "daemon/integrity.h"
#include "daemon/learned.h"
#include "daemon/listeners.h"
#include "daemon/memfd.h"
#include "daemon/netns.h"
#include "daemon/receipts.h"
#include "daemon/reload.h"
#include "daemon/sdnotify.h"
#include "daemon/crew.h"
#include "daemon/sweep.h"
#include "daemon/tokenlife.h"
#include "daemon/trust.h"
#include "daemon/upgrade.h"
#include "daemon/worker.h"
#include "kern/kern.h"
#include "kern/kern_accel.h"
#include "kern/kern_ways.h"
#include "tidegate_ctl.h"
#include "tidegate_rec.h"

enum { TICK_MS = 50, SECOND_TICKS = 20, SWEEP_TICKS = 200 };
enum { DRAIN_NS_S = 30, TUPLE_AGE_NS_S = 60, FILES_MAX = 1 << 20 };

/* ------------------------------------------------------------------ starting */

int parent_make_dir(const char *path, mode_t mode)
{
	struct stat st;

	/* Not as the umask has it: administrators' group has to get to the control socket. */
	if (mkdir(path, mode) ? errno != EEXIST : chmod(path, mode) != 0) {
		log_error("%s: %s", path, strerror(errno));
		return -errno;
	}
	if (stat(path, &st) || !S_ISDIR(st.st_mode) || (st.st_mode & 022) || st.st_uid != 0) {
		log_error("%s must be a directory of root that nobody else can write to", path);
		return -EPERM;
	}
	return 0;
}

int parent_make_dirs(struct parent *p)
{
	const struct config *c = p->cfg;

	if (parent_make_dir(c->run_dir, 0755) || parent_make_dir(c->state_dir, 0750) ||
	    parent_make_dir(c->record_dir, 0750))
		return -EPERM;
	p->record_dir = open(c->record_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return p->record_dir < 0 ? -errno : 0;
}

void parent_try_kernel(struct parent *p, const struct kern_progs *ready)
{
	struct kern_paths paths = {.bpf_dir = p->cfg->bpf_dir,
				   .cgroup_root = p->cfg->cgroup_root,
				   .progs = ready};
	struct buf error;
	int rc;

	if (p->cfg->bpf == BPF_OFF) {
		(void)snprintf(p->bpf_why, sizeof(p->bpf_why), "bpf is off in the configuration");
		return;
	}
	buf_init(&error, 4096);
	rc = kern_load(&paths, &p->kern, &error);
	if (rc) {
		p->kern = NULL;
		(void)snprintf(p->bpf_why, sizeof(p->bpf_why), "%.*s", (int)min_size(error.n, 250),
			       (const char *)buf_data(&error));
		log_warning("no kernel steering, gateway listeners only: %s", p->bpf_why);
	}
	for (unsigned w = 0; !rc && w < KERN_WAY_COUNT; w++)
		p->ways_open |= kern_way_open(p->kern, w) ? 1u << w : 0;
	if (!rc && kern_left_out(p->kern))
		log_warning("this kernel refuses programs that are left out: %s",
			    kern_left_out(p->kern));
	buf_done(&error);
}

static int start_kernel(struct parent *p)
{
	uint64_t netns;
	int rc;

	p->own = (struct listener_set){.tcp4 = -1, .tcp6 = -1, .dns = {-1, -1, -1, -1}};
	parent_try_kernel(p, NULL);
	if (!p->kern)
		return p->cfg->bpf == BPF_ON ? -EPERM : 0;
	rc = listeners_netns(&netns);
	if (!rc && !listener_set_kept(p, netns, &p->own))
		rc = listener_set_open(&p->own);
	if (rc)
		log_error("cannot listen on loopback: %s", strerror(-rc));
	return rc;
}

static void raise_limits(void)
{
	struct rlimit r = {FILES_MAX, FILES_MAX};

	if (setrlimit(RLIMIT_NOFILE, &r) && getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
}

/* Sessions that did not finish in time are told so; then it is over. */
static void stop_tick(struct parent *p)
{
	uint64_t now = clock_boot_ns();

	if (children_gone(p) || (p->stop_told && now > p->stop_boot_ns)) {
		if (roles_stopped(p))
			uv_stop(&p->loop);
	} else if (!p->stop_told && now > p->stop_boot_ns) {
		p->stop_told = true;
		p->stop_boot_ns = now + 2000000000ull;
		(void)registry_kill(p, NULL, NULL, NULL, TG_R_SHUTDOWN, reason_what(TG_R_SHUTDOWN));
	}
}

static void on_tick(uv_timer_t *t)
{
	struct parent *p = t->data;
	static unsigned n;

	grants_tick(p);
	receipts_tick(p);
	roles_tick(p);
	tokenlife_tick(p);
	if (p->stopping) {
		stop_tick(p);
		return;
	}
	if (++n % SECOND_TICKS)
		return;
	sdnotify_alive();
	alive_tick();
	targets_tick(p);
	learned_tick(p);
	children_tick(p);
	crew_tick(p);
	if (p->kern) {
		(void)!kern_agents_refresh(p->kern);
		(void)!kern_tuples_sweep(p->kern, TUPLE_AGE_NS_S * 1000000000ull);
		if (n % SWEEP_TICKS == 0) {
			sweep_start(p);
			agentrules_tell(p);
		}
		netns_tick(p);
	}
	audit_tick(p, false);
	integrity_tick(p); /* with what kern_agents_refresh has found */
	downtime_tick(p);
	if (p->authd.ipc && p->authd.ready) {
		ipc_begin(p->authd.ipc, IPC_IDP_STATE, 0);
		ipc_send(p->authd.ipc);
		ipc_begin(p->authd.ipc, IPC_ISSUER_STATE, 0);
		ipc_send(p->authd.ipc);
	}
}

void parent_stop(struct parent *p)
{
	if (p->stopping) {
		uv_stop(&p->loop);
		return;
	}
	log_notice("stopping: sessions have %d s to finish", DRAIN_NS_S);
	sdnotify("STOPPING=1\nSTATUS=sessions finish, for %d s at most", DRAIN_NS_S);
	p->stopping = true;
	p->stop_boot_ns = clock_boot_ns() + DRAIN_NS_S * 1000000000ull;
	children_stop(p);
}

static void upgrade_by_signal(struct parent *p)
{
	struct buf error;

	buf_init(&error, 1024);
	if (upgrade_begin(p, &error))
		log_error("no upgrade: %.*s", (int)error.n, (const char *)buf_data(&error));
	buf_done(&error);
}

static void on_signal(uv_signal_t *h, int signum)
{
	struct parent *p = h->data;

	switch (signum) {
	case SIGHUP:
		reload_by_signal(p);
		break;
	case SIGCHLD:
		children_reaped(p);
		break;
	case SIGUSR2:
		upgrade_by_signal(p);
		break;
	default:
		parent_stop(p);
	}
}

static void watch_signals(struct parent *p)
{
	static const int signals[] = {SIGHUP, SIGTERM, SIGINT, SIGCHLD, SIGUSR2};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		(void)uv_signal_init(&p->loop, &p->sigs[i]);
		p->sigs[i].data = p;
		(void)uv_signal_start(&p->sigs[i], on_signal, signals[i]);
	}
	(void)signal(SIGPIPE, SIG_IGN);
}

bool recording_finished(int dir, const char *name)
{
	uint8_t tail[4] = {0};
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	off_t size;

	if (fd < 0)
		return true; /* not ours to mend */
	size = lseek(fd, 0, SEEK_END);
	if (size >= 4)
		(void)!pread(fd, tail, sizeof(tail), size - 4);
	close(fd);
	return ((uint32_t)tail[0] | (uint32_t)tail[1] << 8 | (uint32_t)tail[2] << 16 |
		(uint32_t)tail[3] << 24) == TG_REC_TABLE_MAGIC;
}

/*
 * Agents are better off behind a gate without a log than refused: an operator sees it in the
 * status, and what opens the gate (off, break-glass) is refused as long as it is so.
 */
void parent_start_audit(struct parent *p)
{
	int rc = audit_start(p);

	if (rc)
		log_error("%s/" TG_AUDIT_FILE ": %s", p->cfg->state_dir, strerror(-rc));
}

static int start(struct parent *p)
{
	struct buf error;
	int rc;

	buf_init(&error, 1 << 20);
	rc = reload_read(p, &p->cfg, &p->cfg_fd, &error);
	if (!rc)
		rc = reload_remember(p);
	if (rc) {
		(void)!write(STDERR_FILENO, buf_data(&error), error.n);
		buf_done(&error);
		return rc;
	}
	p->since_wall_ns = p->loaded_wall_ns = clock_wall_ns();
	trust_read(p);
	reload_check_limits(p);
	log_configure(p->cfg->log_level);
	rc = parent_make_dirs(p);
	if (!rc)
		parent_start_audit(p);
	if (!rc)
		rc = start_kernel(p);
	if (!rc)
		rc = learned_init(p);
	if (!rc)
		rc = targets_apply(p, &error);
	if (!rc)
		rc = listeners_prepare(p, p->cfg, &error);
	if (error.n)
		log_warning("%.*s", (int)error.n - 1, (const char *)buf_data(&error));
	buf_done(&error);
	if (!rc)
		rc = control_start(p);
	if (!rc)
		eventsock_open(p);
	if (!rc)
		rc = roles_start(p);
	if (!rc)
		rc = children_start(p);
	if (!rc)
		listeners_open_new(p);
	if (!rc)
		crew_find_orphans(p);
	if (!rc)
		rc = metrics_start(p);
	if (!rc)
		learned_wait(p);
	if (!rc)
		rc = learned_apply(p);
	/* Last: from here on connections come in. */
	if (!rc && p->kern)
		rc = listener_set_steer(p, &p->own);
	if (!rc && p->kern)
		rc = netns_start(p);
	if (!rc)
		accel_start(p);
	if (!rc) {
		downtime_end(p);
		integrity_start(p);
		listeners_keep(p);
		fdstore_refuse_rest(p->store);
		(void)audit_write(p, AUDIT_SYNC, "daemon.start", "{s:s, s:i, s:s, s:s}", "version",
				  TIDEGATE_VERSION, "pid", (int)getpid(), "bpf",
				  p->kern ? "on" : p->bpf_why, "policy",
				  policy_digest(p->cfg->policy));
	}
	return rc;
}

/* Where a newer binary will be: of this one's path, which may be replaced later. */
static void find_program(struct parent *p)
{
	ssize_t n = readlink("/proc/self/exe", p->program, sizeof(p->program) - 1);

	p->program[n > 0 ? n : 0] = '\0';
}

int parent_main(const char *config_path, int handover)
{
	static struct parent p;
	sigset_t none;
	int rc;

	if (geteuid() != 0) {
		log_error("tidegated must be started as root; it gives up what it does not need");
		return 1;
	}
	p.config_path = config_path;
	list_init(&p.gateways);
	list_init(&p.targets);
	list_init(&p.agents);
	list_init(&p.grants);
	list_init(&p.approvals);
	list_init(&p.receipts);
	list_init(&p.glogins);
	random_bytes(p.mask_key, sizeof(p.mask_key));
	p.store = fdstore_new();
	find_program(&p);
	(void)umask(027);
	raise_limits();
	BUG_ON(uv_loop_init(&p.loop));
	watch_signals(&p);
	rc = handover < 0 ? start(&p) : handover_take(&p, handover);
	if (rc) {
		log_error("cannot start: %s", strerror(-rc));
		/* Refused is better than waiting for nobody. */
		fdstore_drop_all(p.store);
		return 1;
	}
	/* The binary before held them back; who ended since then is seen now. */
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	children_reaped(&p);
	p.tick.data = &p;
	(void)uv_timer_init(&p.loop, &p.tick);
	(void)uv_timer_start(&p.tick, on_tick, TICK_MS, TICK_MS);
	sdnotify("READY=1\nMAINPID=%d\nSTATUS=" TIDEGATE_VERSION ", policy %.16s", (int)getpid(),
		 policy_digest(p.cfg->policy));
	log_notice("tidegated %s is ready: %u targets, %u agents, %u workers, steering %s",
		   TIDEGATE_VERSION, p.cfg->ntargets, p.cfg->nagents, p.nworkers,
		   p.kern ? "on" : "off");
	(void)uv_run(&p.loop, UV_RUN_DEFAULT);
	kern_selftest_cancel(); /* its thread is joined at the exit */
	/*
	 * The listener's entry stays: its socket is closed, so connections are refused, and
	 * nobody else can bind the port meanwhile.
	 */
	sweep_stop(&p);
	netns_stop(&p);
	downtime_tick(&p);
	downtime_stop(&p);
	integrity_stop(&p);
	kern_close(p.kern);
	if (children_gone(&p))
		crew_tidy(&p);
	control_stop(&p);
	fdstore_free(p.store);
	(void)audit_write(&p, AUDIT_SYNC, "daemon.stop", "{s:i}", "pid", (int)getpid());
	audit_stop(&p);
	log_notice("stopped; targets stay closed to agents until the next start");
	return 0;
}
