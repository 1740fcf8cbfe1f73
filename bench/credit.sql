-- One credit for pgbench, with the statements of posting.post(). python -m bench compares them with those of the ledger.
-- \set computes what the ledger computes in Python. A UUID is joined from two numbers of 16 digits.
\set inn :first_inn + random(0, :organizations - 1)
\set amount random(100000, 999999)
\set document_number random(1, 99999999)
\set operation random(1000000000000000, 9999999999999999)
\set operation_rest random(1000000000000000, 9999999999999999)
\set moment :moment + 1
\set moment_rest random(1000000000000000, 9999999999999999)
BEGIN;
SELECT organizations.inn, organizations.id, organizations.balance, organizations.version, organizations.overdraft_limit,
    organizations.outside_debits, organizations.head_sha256, EXISTS (SELECT endpoints.id
    FROM endpoints WHERE endpoints.disabled_at IS NULL
    AND (endpoints.organization_id IS NULL OR endpoints.organization_id = organizations.id)) AS has_subscribers,
    (SELECT count(*) AS count_1 FROM accounts WHERE accounts.code = ANY (ARRAY[:account]::varchar[])) AS account_count
FROM organizations WHERE organizations.inn = ANY (ARRAY[:inn]::varchar(12)[])
ORDER BY organizations.inn FOR NO KEY UPDATE \gset
\set after :balance + :amount
\set version :version + 1
INSERT INTO payments (id, operation_id, external_id, forward_id, source, organization_id, payer_inn, amount, currency,
    document_number, document_date, body, body_sha256, key_id, received_at)
SELECT anon_1.id, anon_1.operation_id, anon_1.external_id, anon_1.forward_id, anon_1.source, anon_1.organization_id, anon_1.payer_inn,
    anon_1.amount, anon_1.currency, anon_1.document_number, anon_1.document_date, anon_1.body, anon_1.body_sha256,
    anon_1.key_id, anon_1.received_at
FROM unnest(ARRAY[(:moment || :moment_rest)::uuid], ARRAY[(:operation || :operation_rest)::uuid],
    ARRAY[NULL]::varchar(255)[], ARRAY[NULL]::uuid[], ARRAY[:source]::varchar(32)[], ARRAY[:id]::bigint[], ARRAY[:inn]::varchar(12)[],
    ARRAY[:amount]::bigint[], ARRAY[:currency]::varchar(3)[], ARRAY[:document_number]::varchar(50)[],
    ARRAY[:document_date]::timestamptz[], ARRAY[:body]::bytea[], ARRAY[:body_sha256]::varchar(64)[],
    ARRAY[:key_id]::varchar(16)[], ARRAY[:now]::timestamptz[])
    AS anon_1(id, operation_id, external_id, forward_id, source, organization_id, payer_inn, amount, currency, document_number,
    document_date, body, body_sha256, key_id, received_at)
ON CONFLICT (operation_id, source) DO NOTHING;
INSERT INTO balance_log (organization_id, version, delta, balance_before, balance_after, payment_id, debit_id, reason,
    created_at, counter_account, overdraft_limit, row_sha256)
SELECT anon_1.organization_id, anon_1.version, anon_1.delta, anon_1.balance_before, anon_1.balance_after,
    anon_1.payment_id, anon_1.debit_id, anon_1.reason, anon_1.created_at, anon_1.counter_account,
    anon_1.overdraft_limit, anon_1.row_sha256
FROM unnest(ARRAY[:id]::bigint[], ARRAY[:version]::bigint[], ARRAY[:amount]::bigint[], ARRAY[:balance]::bigint[],
    ARRAY[:after]::bigint[], ARRAY[(:moment || :moment_rest)::uuid], ARRAY[NULL]::uuid[], ARRAY[:reason]::varchar(32)[],
    ARRAY[:now]::timestamptz[], ARRAY[:account]::varchar(64)[], ARRAY[:overdraft_limit]::bigint[],
    ARRAY[:row_sha256]::varchar(64)[])
    AS anon_1(organization_id, version, delta, balance_before, balance_after, payment_id, debit_id, reason, created_at,
    counter_account, overdraft_limit, row_sha256);
UPDATE organizations SET balance=(SELECT newest.balance_after FROM balance_log AS newest
    WHERE newest.organization_id = organizations.id ORDER BY newest.version DESC LIMIT :one),
    version=(SELECT newest.version FROM balance_log AS newest
    WHERE newest.organization_id = organizations.id ORDER BY newest.version DESC LIMIT :one),
    head_sha256=(SELECT newest.row_sha256 FROM balance_log AS newest
    WHERE newest.organization_id = organizations.id ORDER BY newest.version DESC LIMIT :one)
WHERE organizations.id = ANY (ARRAY[:id]::bigint[]);
COMMIT;
