/* SPDX-License-Identifier: MIT */
/* Who counts as an agent. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "env.h"

static struct dial to_target = {.ip = ADDR4, .port = PORT_TARGET};

static bool steered_as(uint32_t agent)
{
	struct tg_record r;
	int c = accept_in(env.listen4, 1000);

	CHECK(c >= 0);
	CHECK_EQ(kern_record_get(kern_record_fd(env.k), c, &r), 0);
	CHECK_EQ(r.agent, agent);
	close(c);
	return true;
}

static bool passed_by(void)
{
	int c = accept_in(env.server4, 1000);

	CHECK(c >= 0);
	close(c);
	return true;
}

static bool cgroup_below(void)
{
	CHECK(cgroup_make("/agents/a") && cgroup_make("/agents/a/b"));
	CHECK_EQ(client("/agents/a/b", 0, dial, &to_target), 0);
	CHECK(steered_as(AGENT));
	CHECK_EQ(kern_agent_cgroup_set(env.k, "/agents/a", AGENT + 1), 0);
	CHECK_EQ(client("/agents/a/b", 0, dial, &to_target), 0);
	CHECK(steered_as(AGENT + 1)); /* the innermost names the agent */
	CHECK_EQ(client("/agents", 0, dial, &to_target), 0);
	CHECK(steered_as(AGENT));
	CHECK(cgroup_remove("/agents/a/b") && cgroup_remove("/agents/a"));
	return true;
}

/* Deeper than the programs walk: still inside. */
static bool cgroup_deep(void)
{
	char path[256] = "/agents";
	size_t n;

	for (int i = 0; i < 30; i++) {
		snprintf(path + strlen(path), sizeof(path) - strlen(path), "/d");
		CHECK(cgroup_make(path));
	}
	CHECK_EQ(client(path, 0, dial, &to_target), 0);
	CHECK(steered_as(AGENT));
	CHECK_EQ(kern_agent_cgroup_set(env.k, path, AGENT), -E2BIG);
	for (n = strlen(path); n > strlen("/agents"); n -= 2, path[n] = '\0')
		CHECK(cgroup_remove(path));
	return true;
}

/* No refresh in between: the program binds the new id before mkdir() returns. */
static bool cgroup_remade(void)
{
	uint64_t old, id;

	CHECK_EQ(kern_cgroup_id(env.k, "/agents", false, &old), 0);
	CHECK(cgroup_remove("/agents") && cgroup_make("/agents"));
	CHECK_EQ(kern_cgroup_id(env.k, "/agents", false, &id), 0);
	CHECK(id != old);
	CHECK_EQ(counted(TG_K_CGROUP_REMADE), 1);
	CHECK_EQ(client("/agents", 0, dial, &to_target), 0);
	CHECK(steered_as(AGENT));
	return true;
}

static bool cgroup_made_later(void)
{
	CHECK_EQ(kern_agent_cgroup_set(env.k, "/later", AGENT + 2), 0);
	CHECK(cgroup_make("/later"));
	CHECK_EQ(client("/later", 0, dial, &to_target), 0);
	CHECK(steered_as(AGENT + 2));
	CHECK(cgroup_remove("/later"));
	return true;
}

static bool has_link(uint64_t id)
{
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s/links/egress_%016llx", env.bpf_dir, TG_ABI_VERSION,
		 (unsigned long long)id);
	return stat(path, &st) == 0;
}

static bool refresh_moves_backstop(void)
{
	uint64_t old, id;

	CHECK_EQ(kern_cgroup_id(env.k, "/agents", false, &old), 0);
	CHECK(has_link(old));
	CHECK(cgroup_remove("/agents") && cgroup_make("/agents"));
	CHECK_EQ(kern_cgroup_id(env.k, "/agents", false, &id), 0);
	CHECK(!has_link(id));
	CHECK_EQ(kern_agents_refresh(env.k), 0);
	CHECK(has_link(id) && !has_link(old));
	return true;
}

static bool agent_deleted(void)
{
	uint64_t id;

	CHECK_EQ(kern_cgroup_id(env.k, "/agents", false, &id), 0);
	CHECK_EQ(kern_agent_cgroup_delete(env.k, "/agents"), 0);
	CHECK(!has_link(id));
	CHECK_EQ(client("/agents", 0, dial, &to_target), 0);
	CHECK(passed_by());
	CHECK(cgroup_remove("/agents") && cgroup_make("/agents"));
	CHECK_EQ(client("/agents", 0, dial, &to_target), 0);
	CHECK(passed_by());
	CHECK_EQ(kern_agent_cgroup_delete(env.k, "/agents"), -ENOENT);
	return true;
}

static bool uid_agent(void)
{
	struct tg_record r;
	int c;

	CHECK_EQ(kern_agent_uid_set(env.k, UID_AGENT, AGENT_UID), 0);
	CHECK_EQ(client("/plain", UID_AGENT, dial, &to_target), 0);
	c = accept_in(env.listen4, 1000);
	CHECK(c >= 0);
	CHECK_EQ(kern_record_get(kern_record_fd(env.k), c, &r), 0);
	CHECK_EQ(r.agent, AGENT_UID);
	CHECK_EQ(r.uid, UID_AGENT);
	close(c);
	CHECK_EQ(client("/plain", UID_OTHER, dial, &to_target), 0);
	CHECK(passed_by());
	CHECK_EQ(client("/agents", UID_AGENT, dial, &to_target), 0);
	CHECK(steered_as(AGENT)); /* the cgroup is the stronger statement */
	CHECK_EQ(kern_agent_uid_delete(env.k, UID_AGENT), 0);
	CHECK_EQ(client("/plain", UID_AGENT, dial, &to_target), 0);
	CHECK(passed_by());
	return true;
}

struct carried {
	int type;
	const char *from, *to;
};

/* Makes a socket in one cgroup and uses it in another. */
static int carry(void *arg)
{
	const struct carried *c = arg;
	struct sockaddr_storage ss;
	socklen_t len;
	int fd;

	ss = addr_of(ADDR4, PORT_TARGET, &len);
	if (!cgroup_join(c->from))
		return 240;
	fd = socket(AF_INET, c->type, 0);
	if (fd < 0 || !cgroup_join(c->to))
		return 241;
	if (c->type == SOCK_STREAM)
		return connect(fd, (struct sockaddr *)&ss, len) ? errno : 0;
	return sendto(fd, "data", 4, 0, (struct sockaddr *)&ss, len) == 4 ? 0 : errno;
}

static bool socket_carried_in(void)
{
	struct carried c = {SOCK_STREAM, "/plain", "/agents"};

	CHECK_EQ(client(NULL, 0, carry, &c), 0);
	CHECK(steered_as(AGENT));
	c.type = SOCK_DGRAM;
	CHECK_EQ(client(NULL, 0, carry, &c), ECONNREFUSED);
	return true;
}

static bool socket_carried_out(void)
{
	struct carried c = {SOCK_STREAM, "/agents", "/plain"};

	CHECK_EQ(client(NULL, 0, carry, &c), 0);
	CHECK(steered_as(AGENT));
	c.type = SOCK_DGRAM;
	CHECK_EQ(client(NULL, 0, carry, &c), ECONNREFUSED);
	return true;
}

static bool never_itself(void)
{
	uint32_t worker = UID_OTHER;
	struct kern *utility = NULL;
	struct buf error;

	buf_init(&error, 512);
	CHECK_EQ(kern_agent_self(env.k, &worker, 1, &error), 0);
	CHECK_EQ(kern_open(&env.paths, &utility, &error), 0);
	for (int i = 0; i < 2; i++) {
		struct kern *k = i ? utility : env.k;

		CHECK_EQ(kern_agent_cgroup_set(k, "/daemon", AGENT), -EBUSY);
		CHECK_EQ(kern_agent_cgroup_set(k, "/", AGENT), -EBUSY);
		CHECK_EQ(kern_agent_uid_set(k, 0, AGENT), -EBUSY);
		CHECK_EQ(kern_agent_uid_set(k, UID_OTHER, AGENT), -EBUSY);
		CHECK_EQ(kern_agent_cgroup_set(k, "/daemo", AGENT), 0);
		CHECK_EQ(kern_agent_cgroup_delete(k, "/daemo"), 0);
	}
	kern_close(utility);
	CHECK_EQ(kern_agent_self(env.k, NULL, 0, &error), 0);
	buf_done(&error);
	return true;
}

/* Watched while no daemon ran: the daemon that then starts inside says so. */
static bool started_inside(void)
{
	struct buf error;

	buf_init(&error, 512);
	CHECK(cgroup_join("/agents"));
	CHECK_EQ(kern_agent_self(env.k, NULL, 0, &error), -EBUSY);
	CHECK(error.n > 0 && memmem(buf_data(&error), error.n, "/agents", 7));
	CHECK(cgroup_join("/daemon"));
	buf_reset(&error);
	CHECK_EQ(kern_agent_uid_set(env.k, UID_AGENT, AGENT), 0);
	CHECK_EQ(kern_agent_self(env.k, &(uint32_t){UID_AGENT}, 1, &error), -EBUSY);
	CHECK(error.n > 0 && memmem(buf_data(&error), error.n, "4711", 4));
	CHECK_EQ(kern_agent_uid_delete(env.k, UID_AGENT), 0);
	CHECK_EQ(kern_agent_self(env.k, NULL, 0, &error), 0);
	buf_done(&error);
	return true;
}

static bool bad_paths(void)
{
	static const char *const bad[] = {"",	   "agents", "/agents/", "//",
					  "/a//b", "/../x",  "/a/.."};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CHECK_EQ(kern_agent_cgroup_set(env.k, bad[i], AGENT), -EINVAL);
	return true;
}

static bool ids_and_paths(void)
{
	char path[256];
	uint64_t id;

	CHECK_EQ(kern_cgroup_id(env.k, "/made/deep", true, &id), 0);
	CHECK_EQ(kern_cgroup_path(env.k, id, path, sizeof(path)), 0);
	CHECK(strcmp(path, "/made/deep") == 0);
	CHECK(cgroup_remove("/made/deep") && cgroup_remove("/made"));
	CHECK_EQ(kern_cgroup_path(env.k, id, path, sizeof(path)), -ENOENT);
	CHECK_EQ(kern_cgroup_id(env.k, "/made", false, &id), -ENOENT);
	return true;
}

const struct row agent_rows[] = {
	{"agent: cgroups below, the innermost wins", cgroup_below},
	{"agent: 30 levels below", cgroup_deep},
	{"agent: cgroup removed and made again", cgroup_remade},
	{"agent: cgroup made after it was configured", cgroup_made_later},
	{"agent: refresh moves the backstop", refresh_moves_backstop},
	{"agent: deleted", agent_deleted},
	{"agent: by uid", uid_agent},
	{"agent: socket carried into the cgroup", socket_carried_in},
	{"agent: socket carried out of the cgroup", socket_carried_out},
	{"agent: the daemon itself cannot be one", never_itself},
	{"agent: the daemon started inside a watched cgroup", started_inside},
	{"agent: malformed paths", bad_paths},
	{"agent: cgroup ids and paths", ids_and_paths},
	{0},
};
