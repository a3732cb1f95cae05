/* SPDX-License-Identifier: MIT */
/*
 * What libpq sends that no script does: unnamed statements with parameters in both formats,
 * Describe, single rows, and pipeline mode with errors, flushes and empty batches. Prints
 * all that it hears; the output must not depend on what is between it and the server.
 *   libpq_tour PORT
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char card[] = "4111 1111 1111 1111";

static void show(const char *what, PGresult *r)
{
	const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);

	printf("%s: %s %s", what, PQresStatus(PQresultStatus(r)), state ? state : PQcmdStatus(r));
	for (int row = 0; row < PQntuples(r); row++) {
		printf(row ? " /" : " =");
		for (int col = 0; col < PQnfields(r); col++) {
			printf(" ");
			for (int i = 0; i < PQgetlength(r, row, col); i++)
				printf(PQfformat(r, col) ? "%02x" : "%c",
				       (unsigned char)PQgetvalue(r, row, col)[i]);
		}
	}
	for (int i = 0; i < PQnparams(r); i++)
		printf(" $%d:%u", i + 1, PQparamtype(r, i));
	printf("\n");
	PQclear(r);
}

/* Everything up to @syncs ends of pipelines, or (0) to the end of one query. */
static void drain(PGconn *c, const char *what, int syncs)
{
	int nulls = 0;

	for (;;) {
		PGresult *r = PQgetResult(c);

		if (!r) {
			if (!syncs || ++nulls > 100)
				return;
			continue;
		}
		nulls = 0;
		if (PQresultStatus(r) == PGRES_PIPELINE_SYNC && --syncs == 0) {
			show(what, r);
			return;
		}
		show(what, r);
	}
}

static void need(int ok, PGconn *c)
{
	if (ok)
		return;
	printf("failed: %s\n", PQerrorMessage(c));
	exit(1);
}

static void params(PGconn *c)
{
	static const unsigned char seven[] = {0, 0, 0, 7};
	const char *values[] = {(const char *)seven, "text", NULL};
	const int lengths[] = {4, 0, 0}, formats[] = {1, 0, 0};
	const Oid types[] = {23, 0, 25};

	for (int format = 0; format < 2; format++) {
		need(PQsendQueryParams(c, "SELECT $1 + 1, $2 || '!', $3", 3, types, values, lengths,
				       formats, format), c);
		drain(c, "params", 0);
	}
	need(PQsendQueryParams(c, "SELECT i FROM generate_series(1, 3) i", 0, NULL, NULL, NULL, NULL,
			       1), c);
	need(PQsetSingleRowMode(c), c);
	drain(c, "single", 0);
	need(PQsendPrepare(c, "", "SELECT $1::int", 0, NULL), c);
	drain(c, "prepare", 0);
	need(PQsendDescribePrepared(c, ""), c);
	drain(c, "describe", 0);
	need(PQsendQueryPrepared(c, "", 1, values, lengths, formats, 0), c);
	drain(c, "prepared", 0);
	need(PQsendQueryParams(c, "SELECT 1/$1::int", 1, NULL, (const char *[]){"0"}, NULL, NULL, 0), c);
	drain(c, "fails", 0);
	need(PQsendQueryParams(c, "", 0, NULL, NULL, NULL, NULL, 0), c);
	drain(c, "empty", 0);
}

static void pipeline(PGconn *c)
{
	const char *values[] = {card, NULL};

	need(PQenterPipelineMode(c), c);
	need(PQpipelineSync(c), c);
	drain(c, "nothing", 1);
	for (int i = 0; i < 3; i++)
		need(PQsendQueryParams(c, "SELECT $1::text", 1, NULL, values, NULL, NULL, i & 1), c);
	need(PQsendFlushRequest(c), c);
	need(PQflush(c) == 0, c);
	for (int i = 0; i < 3; i++)
		drain(c, "flushed", 0);
	need(PQpipelineSync(c), c);
	drain(c, "pipeline", 1);
	/* An error in the middle: the rest of the batch is skipped, the next is not. */
	need(PQsendQueryParams(c, "SELECT 1", 0, NULL, NULL, NULL, NULL, 0), c);
	need(PQsendQueryParams(c, "SELECT 1/0", 0, NULL, NULL, NULL, NULL, 0), c);
	need(PQsendQueryParams(c, "SELECT 2", 0, NULL, NULL, NULL, NULL, 0), c);
	need(PQpipelineSync(c), c);
	need(PQsendPrepare(c, "named", "SELECT $1::text || '?'", 0, NULL), c);
	need(PQsendDescribePrepared(c, "named"), c);
	need(PQsendQueryPrepared(c, "named", 1, values, NULL, NULL, 0), c);
	need(PQsendQueryPrepared(c, "named", 1, values + 1, NULL, NULL, 1), c);
	need(PQpipelineSync(c), c);
	drain(c, "mixed", 2);
	need(PQsendQueryParams(c, "BEGIN", 0, NULL, NULL, NULL, NULL, 0), c);
	need(PQsendQueryParams(c, "CREATE TEMP TABLE t (a int) ON COMMIT DROP", 0, NULL, NULL, NULL,
			       NULL, 0), c);
	need(PQsendQueryParams(c, "INSERT INTO t VALUES ($1::int) RETURNING a", 1, NULL,
			       (const char *[]){"5"}, NULL, NULL, 1), c);
	need(PQsendQueryParams(c, "COMMIT", 0, NULL, NULL, NULL, NULL, 0), c);
	need(PQpipelineSync(c), c);
	drain(c, "transaction", 1);
	need(PQexitPipelineMode(c), c);
	need(PQsendQuery(c, "SELECT 'simple again'; SELECT 2"), c);
	drain(c, "simple", 0);
}

int main(int argc, char **argv)
{
	const char *words[] = {"host", "port", "user", "dbname", NULL};
	const char *values[] = {"127.0.0.1", argc > 1 ? argv[1] : "", "agent", "shop", NULL};
	PGconn *c = PQconnectdbParams(words, values, 0);

	need(PQstatus(c) == CONNECTION_OK, c);
	params(c);
	pipeline(c);
	PQfinish(c);
	return 0;
}
