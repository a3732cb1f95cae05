/* SPDX-License-Identifier: MIT */
/*
 * Judges statements with a snapshot of a real catalog, for test_catalog.py.
 *   catalog_driver CONNINFO RULE=HOW... < statements
 * One statement a line; `!reload` loads a new snapshot, `!none` works without one, and a line
 * that begins with `!sql ` is only run. For each statement a line of JSON.
 */
#include <libpq-fe.h>
#include <stdlib.h>

#include "base/jsonw.h"
#include "inspect/sql/sql.h"
#include "policy/catalog.h"

static PGconn *conn;
static const struct mask_set *masks;
static struct catalog *catalog;
static struct sql *sql;

static void die(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	exit(1);
}

static void load(void)
{
	catalog_free(catalog);
	if (catalog_new(masks, &catalog))
		die("catalog_new", "failed");
	for (unsigned i = 0; i < CATALOG_QUERIES; i++) {
		PGresult *r = PQexec(conn, catalog_query(masks, i));

		if (PQresultStatus(r) != PGRES_TUPLES_OK)
			die(catalog_query(masks, i), PQerrorMessage(conn));
		for (int row = 0; row < PQntuples(r); row++) {
			struct slice v[16] = {0};
			unsigned n = (unsigned)PQnfields(r);

			for (unsigned k = 0; k < n; k++)
				if (!PQgetisnull(r, row, (int)k))
					v[k] = slice_str(PQgetvalue(r, row, (int)k));
			if (catalog_row(catalog, i, v, n))
				die("catalog_row", catalog_query(masks, i));
		}
		PQclear(r);
	}
	if (catalog_seal(catalog))
		die("catalog_seal", "failed");
}

static const char *const hows[] = {"none", "redact", "last4", "hash", "null"};

static void judge(const char *text)
{
	const struct sql_info *info = sql_classify(sql, slice_str(text), SQL_LEX_STANDARD);
	PGresult *r = PQexec(conn, text);
	ExecStatusType status = PQresultStatus(r);
	int n = PQnfields(r);
	struct insp_column cols[64] = {0};
	struct insp_plan plans[64];
	bool texts, stale;
	struct buf out;
	struct jsonw w;

	if (status != PGRES_TUPLES_OK && status != PGRES_COPY_OUT && status != PGRES_COMMAND_OK)
		die(text, PQerrorMessage(conn));
	for (int i = 0; i < n; i++) {
		if (status == PGRES_COPY_OUT) {
			if (info->copy->ncolumns == n)
				cols[i].name = info->copy->columns[i];
			continue;
		}
		cols[i].table = PQftable(r, i);
		cols[i].attnum = (int16_t)PQftablecol(r, i);
		cols[i].type = PQftype(r, i);
		cols[i].label = slice_str(PQfname(r, i));
	}
	mask_plan(masks, catalog, info, false, cols, (uint32_t)n, plans, &texts, &stale);
	buf_init(&out, 1 << 20);
	jsonw_init(&w, &out, false);
	jsonw_object(&w);
	jsonw_name(&w, "how");
	jsonw_array(&w);
	for (int i = 0; i < n; i++)
		jsonw_string(&w, hows[plans[i].how]);
	jsonw_array_end(&w);
	jsonw_kv_bool(&w, "unresolved", n > 0 && plans[0].unresolved);
	jsonw_kv_bool(&w, "tainted", mask_tainted(masks, catalog, info));
	jsonw_kv_bool(&w, "texts", texts);
	jsonw_kv_bool(&w, "stale", stale);
	jsonw_object_end(&w);
	if (jsonw_end(&w))
		die("json", "failed");
	printf("%.*s\n", (int)out.n, (const char *)buf_data(&out));
	buf_done(&out);
	PQclear(r);
	if (status == PGRES_COPY_OUT) {
		char *row;

		while (PQgetCopyData(conn, &row, 0) > 0)
			PQfreemem(row);
	}
	while ((r = PQgetResult(conn)))
		PQclear(r);
	sql_info_unref(info);
}

static struct policy *policy;
static struct policy_view *view;

static const struct mask_set *make_masks(int n, char **arg)
{
	static struct slice all[] = {SLICE_LIT("*")};
	struct mask_spec *spec = calloc((size_t)n, sizeof(*spec));
	struct entry_spec e = {.agents = all,
			       .nagents = 1,
			       .targets = all,
			       .ntargets = 1,
			       .masks = spec,
			       .nmasks = (uint32_t)n};
	char why[1024];

	for (int i = 0; i < n; i++) {
		char *eq = strchr(arg[i], '=');

		if (!eq)
			die(arg[i], "not RULE=HOW");
		spec[i].column = slice_of(arg[i], (size_t)(eq - arg[i]));
		for (unsigned k = 0; k < ARRAY_SIZE(hows); k++)
			if (strcmp(hows[k], eq + 1) == 0)
				spec[i].how = k;
	}
	if (policy_new(&e, 1, "driver", &policy, why, sizeof(why)))
		die("policy", why);
	if (policy_view_new(policy, SLICE_LIT("a"), SLICE_LIT("t"), &view))
		die("policy_view_new", "failed");
	free(spec);
	return policy_masks(view);
}

int main(int argc, char **argv)
{
	struct sql_limits limits = {0};
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	if (argc < 3)
		die("usage", "catalog_driver CONNINFO RULE=HOW...");
	conn = PQconnectdb(argv[1]);
	if (PQstatus(conn) != CONNECTION_OK)
		die("connect", PQerrorMessage(conn));
	masks = make_masks(argc - 2, argv + 2);
	if (sql_new(&limits, &sql))
		die("sql_new", "failed");
	load();
	while ((n = getline(&line, &cap, stdin)) > 0) {
		if (line[n - 1] == '\n')
			line[n - 1] = 0;
		if (strcmp(line, "!reload") == 0) {
			load();
		} else if (strcmp(line, "!none") == 0) {
			catalog_free(catalog);
			catalog = NULL;
		} else if (strncmp(line, "!sql ", 5) == 0) {
			PGresult *r = PQexec(conn, line + 5);

			if (PQresultStatus(r) != PGRES_COMMAND_OK)
				die(line, PQerrorMessage(conn));
			PQclear(r);
		} else {
			judge(line);
		}
		(void)fflush(stdout);
	}
	free(line);
	catalog_free(catalog);
	sql_free(sql);
	policy_view_free(view);
	policy_unref(policy);
	PQfinish(conn);
	return 0;
}
