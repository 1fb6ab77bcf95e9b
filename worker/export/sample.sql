-- The sample shop. Money is in cents; dates are ISO texts, which SQLite compares as they are.
CREATE TABLE customers (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    email      TEXT NOT NULL,
    phone      TEXT,
    city       TEXT NOT NULL,
    country    TEXT NOT NULL,
    since      DATETIME NOT NULL,
    newsletter BOOLEAN NOT NULL
);

CREATE TABLE products (
    id          INTEGER PRIMARY KEY,
    sku         TEXT NOT NULL,
    name        TEXT NOT NULL,
    category    TEXT NOT NULL,
    price_cents INTEGER NOT NULL,
    stock       INTEGER NOT NULL,
    weight_kg   REAL
);

CREATE TABLE orders (
    id          INTEGER PRIMARY KEY,
    ordered_on  DATE NOT NULL,
    customer_id INTEGER NOT NULL REFERENCES customers,
    status      TEXT NOT NULL,
    items       INTEGER NOT NULL, -- how many lines it has
    total_cents INTEGER NOT NULL,
    shipped_on  DATE,
    note        TEXT
);

CREATE TABLE order_lines (
    order_id    INTEGER NOT NULL REFERENCES orders,
    line        INTEGER NOT NULL,
    product_id  INTEGER NOT NULL REFERENCES products,
    quantity    INTEGER NOT NULL,
    price_cents INTEGER NOT NULL, -- of one
    discount    REAL NOT NULL,    -- 0.1 is 10%
    PRIMARY KEY (order_id, line)
) WITHOUT ROWID;
