/* SPDX-License-Identifier: MIT */
/* tidegate agent run: who the agent is and what holds it, then exec. See launch.h. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include "base/text.h"
#include "config/config.h"
#include "ctl/ctl.h"
#include "ctl/launch.h"
#include "kern/kern.h"
#include "kern/kern_watch.h"

enum { EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127, PATH_ROOM = 512, ERROR_MAX = 4096 };

static const char user_hint[] = "name one: --user NAME; best an account that nothing else runs as";

struct run {
	const char *name, *user, *cgroup, *fds;
	json_t *agent; /* element of agent.list */
	struct launch launch;
	char path[PATH_ROOM]; /* cgroup to join; empty: known by uid */
};

/* ------------------------------------------------------------- the agent */

/* The daemon's word is what is in force; without it, the file's. */
static int agents(struct ctl *c, json_t **ret)
{
	const struct config *conf;
	int rc;

	if (client_present(c) != 0)
		return client_call(c, TG_CTL_AGENT_LIST, NULL, ret);
	rc = conf_load(c, &conf);
	if (rc)
		return rc < 0 ? CTL_FAILED : rc;
	*ret = json_array();
	for (uint32_t i = 0; i < conf->nagents; i++) {
		const struct cfg_agent *a = &conf->agents[i];
		json_t *cgroups = json_array(), *uids = json_array();

		for (uint32_t j = 0; j < a->ncgroups; j++)
			(void)json_array_append_new(cgroups, json_string(a->cgroups[j]));
		for (uint32_t j = 0; j < a->nuids; j++)
			(void)json_array_append_new(uids, json_integer((json_int_t)a->uids[j]));
		(void)json_array_append_new(*ret, json_pack("{s:s, s:o, s:o}", "name", a->name,
							    "cgroups", cgroups, "uids", uids));
	}
	return 0;
}

static bool below(const char *path, const char *ancestor)
{
	size_t n = strlen(ancestor);

	return strncmp(path, ancestor, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static bool has_uid(const json_t *agent, uid_t uid)
{
	const json_t *v;
	size_t i;

	json_array_foreach(json_object_get(agent, "uids"), i, v)
		if (json_integer_value(v) == (json_int_t)uid)
			return true;
	return false;
}

/* The agent's cgroup that @path is in, or NULL. */
static const char *home_of(const json_t *agent, const char *path)
{
	const json_t *v;
	size_t i;

	json_array_foreach(json_object_get(agent, "cgroups"), i, v)
		if (json_string_value(v) && below(path, json_string_value(v)))
			return json_string_value(v);
	return NULL;
}

static int choose_cgroup(struct ctl *c, struct run *r)
{
	const json_t *list = json_object_get(r->agent, "cgroups");
	const char *path = r->cgroup;

	if (!path && json_array_size(list) > 1)
		return out_error(c, "usage", "choose one with --cgroup PATH",
				 "agent `%s` has more than one cgroup", r->name);
	if (!path)
		path = json_string_value(json_array_get(list, 0));
	if (!path && json_array_size(json_object_get(r->agent, "uids")) == 0)
		return out_error(c, "failed", "give it a `cgroup:` in the configuration",
				 "agent `%s` has neither a cgroup nor a uid", r->name);
	if (path && !home_of(r->agent, path))
		return out_error(c, "usage", "`tidegate agent show` lists them",
				 "%s is not in a cgroup of agent `%s`", path, r->name);
	if (path && snprintf(r->path, sizeof(r->path), "%s", path) >= (int)sizeof(r->path))
		return out_error(c, "usage", NULL, "the path of the cgroup is too long");
	return 0;
}

/* -------------------------------------------------------------- the user */

static int set_user(struct ctl *c, struct run *r, const char *user, const char *group)
{
	const struct passwd *pw = getpwnam(user);
	const struct group *gr = NULL;
	uint64_t id;

	if (!pw && !text_parse_u64(slice_str(user), 0, UINT32_MAX - 1, &id))
		pw = getpwuid((uid_t)id);
	if (!pw)
		return out_error(c, "not_found", user_hint, "there is no user `%s`", user);
	r->launch.uid = pw->pw_uid;
	r->launch.gid = pw->pw_gid;
	r->launch.user = strdup(pw->pw_name);
	if (!group)
		return 0;
	gr = getgrnam(group);
	if (!gr && !text_parse_u64(slice_str(group), 0, UINT32_MAX - 1, &id))
		gr = getgrgid((gid_t)id);
	if (!gr)
		return out_error(c, "not_found", NULL, "there is no group `%s`", group);
	r->launch.gid = gr->gr_gid;
	return 0;
}

/* --user, or the agent's only uid, or who called sudo. Never root without a word. */
static int choose_user(struct ctl *c, struct run *r)
{
	const json_t *uids = json_object_get(r->agent, "uids");
	const char *sudo = getenv("SUDO_UID");
	char text[256], *group = NULL;
	int rc;

	text[0] = '\0';
	if (r->user) {
		if (snprintf(text, sizeof(text), "%s", r->user) >= (int)sizeof(text))
			return out_error(c, "usage", NULL, "the name of the user is too long");
		group = strchr(text, ':');
		if (group)
			*group++ = '\0';
	} else if (json_array_size(uids) == 1) {
		(void)snprintf(text, sizeof(text), "%lld",
			       (long long)json_integer_value(json_array_get(uids, 0)));
	} else if (sudo) {
		(void)snprintf(text, sizeof(text), "%.200s", sudo);
	}
	if (!text[0])
		return out_error(c, "usage", user_hint, "as which user shall agent `%s` run?",
				 r->name);
	rc = set_user(c, r, text, group);
	if (rc)
		return rc;
	if (r->launch.uid == 0 && !r->user)
		return out_error(c, "usage", user_hint,
				 "agents do not run as root unless --user root says so");
	if (!r->path[0] && !has_uid(r->agent, r->launch.uid))
		return out_error(c, "usage", "`tidegate agent show` lists its uids",
				 "agent `%s` is known by its uid, and uid %u is none of its", r->name,
				 r->launch.uid);
	return 0;
}

/* ---------------------------------------------------------- what holds it */

struct watched {
	const struct run *r;
	const char *home; /* the agent's cgroup */
	uint32_t agent;
	bool found;
	const char *other; /* a watched cgroup of somebody else on the way, or NULL */
	char other_room[PATH_ROOM];
};

static int find_home(void *ctx, const char *path, uint32_t agent)
{
	struct watched *w = ctx;

	if (strcmp(path, w->home) == 0) {
		w->found = true;
		w->agent = agent;
	}
	return 0;
}

static int find_other(void *ctx, const char *path, uint32_t agent)
{
	struct watched *w = ctx;

	if (agent != w->agent && below(w->r->path, path)) {
		(void)snprintf(w->other_room, sizeof(w->other_room), "%s", path);
		w->other = w->other_room;
	}
	return 0;
}

static int not_held(struct ctl *c, const struct run *r, const char *why)
{
	return out_error(c, "conflict", "see `tidegate status`, or start the daemon: it puts that right",
			 "agent `%s` is not started, because it would not be held: %s", r->name, why);
}

static int open_cgroup(struct ctl *c, struct run *r, struct kern *k)
{
	char full[PATH_ROOM * 2];
	uint64_t id;
	int rc = kern_cgroup_id(k, r->path, true, &id);

	if (rc == 0) {
		(void)snprintf(full, sizeof(full), "%s%s", kern_cgroup_root(k), r->path);
		r->launch.cgroup_fd = open(full, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		rc = r->launch.cgroup_fd < 0 ? -errno : 0;
	}
	r->launch.cgroup = r->path;
	if (rc)
		return out_error(c, "failed", NULL, "cgroup %s cannot be made: %s", r->path,
				 strerror(-rc));
	return 0;
}

static int hold_by_cgroup(struct ctl *c, struct run *r, struct kern *k)
{
	struct watched w = {.r = r, .home = home_of(r->agent, r->path)};
	char why[PATH_ROOM * 2];
	int rc = kern_agent_cgroup_each(k, find_home, &w);

	if (!rc && !w.found) {
		(void)snprintf(why, sizeof(why), "the kernel does not watch cgroup %s", w.home);
		return not_held(c, r, why);
	}
	if (!rc)
		rc = kern_agent_cgroup_each(k, find_other, &w);
	if (!rc && w.other) {
		(void)snprintf(why, sizeof(why), "cgroup %s, above %s, is another agent's", w.other,
			       r->path);
		return not_held(c, r, why);
	}
	if (rc)
		return not_held(c, r, strerror(-rc));
	rc = open_cgroup(c, r, k);
	if (rc)
		return rc;
	/* Its id is bound and the packet filter on it, whether or not a daemon is there to see. */
	rc = kern_agent_cgroup_set(k, w.home, w.agent);
	return rc ? not_held(c, r, strerror(-rc)) : 0;
}

static int find_uid(void *ctx, uint32_t uid, uint32_t agent)
{
	return uid == *(const uint32_t *)ctx ? 1 : 0;
}

static int hold_by_uid(struct ctl *c, struct run *r, struct kern *k)
{
	uint32_t uid = r->launch.uid;
	char why[64];

	if (kern_agent_uid_each(k, find_uid, &uid) == 1)
		return 0;
	(void)snprintf(why, sizeof(why), "the kernel does not watch uid %u", uid);
	return not_held(c, r, why);
}

static int hold(struct ctl *c, struct run *r)
{
	struct kern *k;
	struct buf error;
	int rc = pins_open(c, &k);

	if (rc)
		return rc;
	buf_init(&error, ERROR_MAX);
	if (kern_guarding(k, &error)) {
		(void)!buf_append(&error, "", 1);
		rc = not_held(c, r, (const char *)buf_data(&error));
	} else if (r->launch.uid && kern_agent_is_daemon(k, r->launch.uid)) {
		rc = out_error(c, "usage", user_hint,
			       "user `%s` is the daemon's own: no agent runs as it", r->launch.user);
	} else {
		rc = r->path[0] ? hold_by_cgroup(c, r, k) : hold_by_uid(c, r, k);
	}
	buf_done(&error);
	kern_close(k);
	return rc;
}

/* ----------------------------------------------------------- command line */

static int take_fds(struct ctl *c, struct run *r)
{
	struct slice rest = slice_str(r->fds ? r->fds : "");

	while (rest.n) {
		const uint8_t *comma = memchr(rest.p, ',', rest.n);
		size_t n = comma ? (size_t)(comma - rest.p) : rest.n;
		uint64_t fd;

		if (text_parse_u64(slice_of(rest.p, n), 0, INT32_MAX, &fd))
			return out_error(c, "usage", "a list of numbers: --pass-fd 3,4",
					 "not a descriptor: %.*s", (int)n, (const char *)rest.p);
		if (r->launch.npass_fds == LAUNCH_FDS_MAX)
			return out_error(c, "usage", NULL, "more than %d descriptors to pass",
					 LAUNCH_FDS_MAX);
		r->launch.pass_fds[r->launch.npass_fds++] = (int)fd;
		rest = slice_from(rest, comma ? n + 1 : n);
	}
	return 0;
}

static int start(struct ctl *c, struct run *r, char **command)
{
	struct buf error;
	int rc, err;

	buf_init(&error, ERROR_MAX);
	rc = launch_enter(&r->launch, &error);
	if (rc)
		rc = out_error(c, rc == -EPERM ? "permission" : "failed", NULL,
			       "agent `%s` is not started: %.*s", r->name, (int)error.n,
			       (const char *)buf_data(&error));
	buf_done(&error);
	if (rc)
		return rc;
	(void)execvp(command[0], command);
	err = errno;
	(void)out_error(c, "failed", NULL, "%s: %s", command[0], strerror(err));
	return err == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}

static int check_fds(struct ctl *c, const struct run *r)
{
	struct buf error;
	int rc;

	buf_init(&error, ERROR_MAX);
	rc = launch_check_fds(&r->launch, &error);
	if (rc)
		rc = out_error(c, "usage", NULL, "%.*s", (int)error.n,
			       (const char *)buf_data(&error));
	buf_done(&error);
	return rc;
}

static int prepare(struct ctl *c, struct run *r, json_t *list)
{
	int rc;

	r->agent = (json_t *)(uintptr_t)ctl_named(list, "name", r->name);
	if (!r->agent)
		return out_error(c, "not_found", "`tidegate agent list` shows them",
				 "there is no agent `%s`", r->name);
	rc = choose_cgroup(c, r);
	if (!rc)
		rc = choose_user(c, r);
	return rc ? rc : hold(c, r);
}

/* The words before and behind the first `--`. */
static int split(struct ctl *c, int *argc, char **argv, char ***ret_command)
{
	for (int i = 0; i < *argc; i++) {
		if (strcmp(argv[i], "--") != 0)
			continue;
		*ret_command = argv[i + 1] ? &argv[i + 1] : NULL;
		*argc = i;
		break;
	}
	if (*ret_command)
		return 0;
	return out_error(c, "usage", "tidegate agent run NAME [OPTIONS] -- COMMAND [ARGUMENT...]",
			 "what is to be run stands behind `--`");
}

int cmd_agent_run(struct ctl *c, int argc, char **argv)
{
	struct run r = {.launch.cgroup_fd = -1};
	struct launch_allow *allow = &r.launch.allow;
	const struct ctl_opt opts[] = {
		{.name = "user", .value = &r.user},
		{.name = "cgroup", .value = &r.cgroup},
		{.name = "pass-fd", .value = &r.fds},
		{.name = "keep-stdio-sockets", .flag = &r.launch.stdio_sockets},
		{.name = "allow-io-uring", .flag = &allow->io_uring},
		{.name = "allow-namespaces", .flag = &allow->namespaces},
		{.name = "allow-ptrace", .flag = &allow->ptrace},
	};
	char **command = NULL;
	json_t *list;
	int rc = split(c, &argc, argv, &command);

	if (!rc)
		rc = ctl_args(c, &argc, argv, opts, ARRAY_SIZE(opts), 1, 1);
	if (rc)
		return rc;
	r.name = argv[0];
	rc = take_fds(c, &r);
	if (!rc && c->batch)
		rc = out_error(c, "usage", NULL, "`agent run` becomes the command: not in a batch");
	if (!rc)
		rc = check_fds(c, &r);
	if (rc)
		return rc;
	if (geteuid() != 0)
		return out_error(c, "permission", "sudo tidegate agent run ...",
				 "joining an agent's cgroup takes root");
	rc = agents(c, &list);
	if (rc)
		return rc;
	rc = prepare(c, &r, list);
	if (!rc && r.launch.uid == 0)
		(void)fprintf(stderr, "Warning: root, even without capabilities, can write itself "
				      "into another cgroup and so leave the gate\n");
	if (!rc)
		rc = start(c, &r, command);
	free((void *)(uintptr_t)r.launch.user);
	json_decref(list);
	return rc;
}
