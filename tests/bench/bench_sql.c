/* SPDX-License-Identifier: MIT */
/*
 * What it costs to classify a text: unseen (parsed) and seen before (found by
 * its skeleton). One JSON line per case, CPU time, median of nine runs.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/buf.h"
#include "inspect/sql/lexer.h"
#include "inspect/sql/sql.h"
#include "runs.h"

enum { RUNS = 9 };

/* A cache of one shape that is pushed out each time: every text is unseen. */
static double run(struct sql *s, struct slice text, struct slice other, unsigned n)
{
	double t[RUNS];

	for (unsigned r = 0; r < RUNS; r++) {
		double from = cpu_us();

		for (unsigned i = 0; i < n; i++) {
			sql_info_unref(sql_classify(s, text, SQL_LEX_STANDARD));
			if (other.n)
				sql_info_unref(sql_classify(s, other, SQL_LEX_STANDARD));
		}
		t[r] = (cpu_us() - from) / n;
	}
	return runs_median(t, RUNS);
}

static void bench(const char *name, struct slice text, unsigned n)
{
	static const struct sql_limits one = {.cache_shapes = 1};
	struct slice other = SLICE_LIT("ROLLBACK");
	struct sql *cold, *warm;
	struct sql_stats stats;
	double miss, hit;

	if (sql_new(&one, &cold) < 0 || sql_new(NULL, &warm) < 0)
		exit(1);
	/* The other text is unseen each time as well; two like it say what that costs. */
	miss = run(cold, text, other, n) - run(cold, other, SLICE_LIT("COMMIT"), n) / 2;
	hit = run(warm, text, (struct slice){0}, n);
	sql_get_stats(warm, &stats);
	printf("{\"bench\":\"sql\",\"case\":\"%s\",\"bytes\":%zu,\"unseen_us\":%.2f,\"known_us\":%.3f,"
	       "\"hits\":%" PRIu64 "}\n",
	       name, text.n, miss, hit, stats.hits);
	sql_free(cold);
	sql_free(warm);
}

static struct buf repeat(const char *before, const char *each, const char *after, size_t bytes)
{
	struct buf b;
	int r;

	buf_init(&b, 4 * bytes + 4096);
	r = buf_append_slice(&b, slice_str(before));
	while (r == 0 && b.n < bytes)
		r = buf_append_slice(&b, slice_str(each));
	if (r == 0)
		r = buf_append_slice(&b, slice_str(after));
	if (r < 0)
		exit(1);
	return b;
}

static const char analytic[] =
	"WITH monthly AS (SELECT date_trunc('month', o.created_at) AS month, c.region, c.segment, "
	"sum(o.amount) AS revenue, count(DISTINCT o.customer_id) AS customers, avg(o.amount) FILTER "
	"(WHERE o.status = 'paid') AS avg_paid FROM sales.orders o JOIN sales.customers c ON c.id = "
	"o.customer_id LEFT JOIN sales.refunds r ON r.order_id = o.id AND r.state IN ('done', "
	"'partial') WHERE o.created_at >= '2024-01-01' AND (c.region = ANY ('{emea,apac}') OR "
	"c.segment IS NOT NULL) AND NOT EXISTS (SELECT 1 FROM sales.fraud f WHERE f.order_id = o.id "
	"AND f.score > 0.85) GROUP BY 1, 2, 3 HAVING sum(o.amount) > 1000), ranked AS (SELECT m.*, "
	"rank() OVER (PARTITION BY m.region ORDER BY m.revenue DESC) AS rnk, lag(m.revenue, 1) OVER "
	"(PARTITION BY m.region, m.segment ORDER BY m.month) AS prev FROM monthly m) SELECT r.region, "
	"coalesce(r.revenue, 0) AS revenue, round((r.revenue - r.prev) / nullif(r.prev, 0) * 100, 2) "
	"AS growth, t.name AS territory, u.full_name AS owner, u.email FROM ranked r JOIN "
	"ref.territories t ON t.region = r.region AND t.active LEFT JOIN hr.users u ON u.id = "
	"t.owner_id LEFT JOIN LATERAL (SELECT l.label FROM ref.labels l WHERE l.territory_id = t.id "
	"AND l.valid_until > now() LIMIT 5) a ON true WHERE r.region <> 'test' ORDER BY growth DESC "
	"NULLS LAST, r.region LIMIT 100 OFFSET 20";

int main(void)
{
	static const struct {
		const char *name, *text;
		unsigned n;
	} shorts[] = {
		{"begin", "BEGIN", 20000},
		{"pgbench", "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;", 20000},
		{"pgbench_parameter", "SELECT abalance FROM pgbench_accounts WHERE aid = $1;", 20000},
		{"update", "UPDATE pgbench_tellers SET tbalance = tbalance + -4711 WHERE tid = 42;", 20000},
		{"sequence", "INSERT INTO t (id, a) VALUES (nextval('t_id_seq'), 'x')", 20000},
		{"set", "SET search_path TO public", 20000},
		{"syntax_error", "SELEC abalance FROM t", 20000},
		{"analytic", analytic, 1000},
	};
	static const struct {
		const char *name, *before, *each, *after;
		size_t bytes;
		unsigned n;
	} longs[] = {
		{"insert_100k", "INSERT INTO orders (id, customer, email) VALUES (1, 'a', 'b')",
		 ", (4711, 'Customer 4711', 'user4711@example.com')", "", 100000, 20},
		{"insert_1m", "INSERT INTO orders (id, customer, email) VALUES (1, 'a', 'b')",
		 ", (4711, 'Customer 4711', 'user4711@example.com')", "", 1000000, 3},
		{"literal_1m", "SELECT '", "0123456789abcdef", "'", 1000000, 10},
		{"in_100k", "SELECT a FROM t WHERE id IN (1", ", 47110815", ")", 100000, 20},
		{"sum_1m", "SELECT 1", "+1", "", 1000000, 1},
		{"parens_1m", "SELECT ", "(", "", 1000000, 1},
		{"ints_1m", "INSERT INTO t VALUES (1)", ",(1)", "", 1000000, 1},
		{"columns_250k", "SELECT 1", ",a", " FROM t", 250000, 1},
		{"selects_250k", "SELECT", ";SELECT", "", 250000, 1},
	};
	struct rusage u;

	for (size_t i = 0; i < ARRAY_SIZE(shorts); i++)
		bench(shorts[i].name, slice_str(shorts[i].text), shorts[i].n);
	for (size_t i = 0; i < ARRAY_SIZE(longs); i++) {
		struct buf b = repeat(longs[i].before, longs[i].each, longs[i].after, longs[i].bytes);

		bench(longs[i].name, buf_slice(&b), longs[i].n);
		buf_done(&b);
		(void)getrusage(RUSAGE_SELF, &u);
		printf("{\"bench\":\"sql\",\"case\":\"%s\",\"max_rss_kb\":%ld}\n", longs[i].name,
		       u.ru_maxrss);
	}
	return 0;
}
