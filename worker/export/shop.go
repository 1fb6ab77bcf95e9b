package export

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// The size of the sample shop. An order has 1 to 5 lines, 3 on average, so there are 300,000.
const (
	shopCustomers = 2_000
	shopProducts  = 300
)

// shopOrders is a variable for tests: with the race detector SQLite is forty times slower.
var shopOrders = 100_000

// The shop is open from the beginning of 2024 to the end of 2026.
var (
	shopOpened = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	shopDays   = 1096
)

// shop generates the sample data. Its random numbers have a fixed seed, so the shop is always the same.
type shop struct {
	random *rand.Rand
	prices []int // of the products, in cents
}

func newShop() *shop { return &shop{random: rand.New(rand.NewPCG(2026, 11))} }

var (
	shopFirstNames = []string{"Zoë", "Łukasz", "José", "Anna", "Björn", "Chloé", "Søren", "María", "Ivana", "Jürgen", "Aoife", "Noah", "Priya", "Yuki", "Elif", "Olga", "Mia", "Théo", "Ana", "Tomáš"}
	shopLastNames  = []string{"Müller", "Kowalski", "García", "O'Neill", "Nguyễn", "Dvořák", "Smith", "Øverland", "Rossi", "Schmidt", "Dubois", "Yılmaz", "Kovács", "Jansen", "Silva", "Sato", "Petrova", "Ångström", "Çelik", "Brown"}
	shopFullNames  = []string{"王小明", "李娜", "山田 太郎", "佐藤 花子"}
	shopCities     = []struct{ city, country string }{
		{"Wien", "AT"}, {"Zürich", "CH"}, {"北京", "CN"}, {"Berlin", "DE"}, {"München", "DE"}, {"Málaga", "ES"},
		{"Besançon", "FR"}, {"London", "GB"}, {"東京", "JP"}, {"Łódź", "PL"}, {"Kraków", "PL"}, {"San José", "US"},
	}
	shopAdjectives = []string{"Classic", "Mini", "Café", "Northern", "Everyday", "Señor", "Grand", "Paper", "Silent", "Wild"}
	shopNouns      = []struct{ noun, emoji, category string }{
		{"Mug", "☕", "Kitchen"}, {"Teapot", "🫖", "Kitchen"}, {"Notebook", "📓", "Office"}, {"Pencil Set", "✏️", "Office"},
		{"Lamp", "💡", "Home"}, {"Cushion", "🛋️", "Home"}, {"Backpack", "🎒", "Travel"}, {"Umbrella", "☂️", "Travel"},
		{"Puzzle", "🧩", "Toys"}, {"Robot", "🤖", "Toys"},
	}
	shopSizes = []string{"S", "M", "L"}
	shopNotes = []string{
		"Please ring twice", "=SUM(A1:A9) was what the customer wrote", "+1 gift card", "-10% as agreed",
		"@warehouse: fragile", "Leave it with the neighbour ☺", "Rush & careful <please>", "Zahlung \"auf Rechnung\"",
		"First line\nsecond line", "Geschenk für Zoë 🎁",
	}
)

// fill generates all tables.
func (s *shop) fill(ctx context.Context, tx *sql.Tx) error {
	for _, step := range []func(context.Context, *sql.Tx) error{s.customers, s.products, s.orders} {
		if err := step(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

func (s *shop) customers(ctx context.Context, tx *sql.Tx) error {
	in := inserter{ctx: ctx, tx: tx, table: "customers"}
	for id := 1; id <= shopCustomers; id++ {
		place := pick(s, shopCities)
		name := pick(s, shopFirstNames) + " " + pick(s, shopLastNames)
		if place.country == "CN" || place.country == "JP" {
			name = pick(s, shopFullNames)
		}
		var phone any
		if s.random.IntN(4) > 0 {
			phone = fmt.Sprintf("+%d %03d %06d", 30+s.random.IntN(60), s.random.IntN(1000), s.random.IntN(1_000_000))
		}
		since := shopOpened.Add(-time.Duration(s.random.IntN(3*365*86400)) * time.Second)
		if err := in.add(id, name, fmt.Sprintf("customer%d@example.com", id), phone, place.city, place.country,
			since.Format(time.DateTime), s.random.IntN(3) == 0); err != nil {
			return fmt.Errorf("customers: %w", err)
		}
	}
	return in.close()
}

func (s *shop) products(ctx context.Context, tx *sql.Tx) error {
	in := inserter{ctx: ctx, tx: tx, table: "products"}
	for id := 1; id <= shopProducts; id++ {
		i := id - 1
		noun := shopNouns[i%len(shopNouns)]
		name := fmt.Sprintf("%s %s %s %s", shopAdjectives[i/len(shopNouns)%len(shopAdjectives)], noun.noun,
			shopSizes[i/100], noun.emoji)
		if id%50 == 0 { // looks like a formula
			name = string("=+-@"[id/50%4]) + name
		}
		price := 195 + 10*s.random.IntN(2000)
		s.prices = append(s.prices, price)
		var weight any
		if s.random.IntN(10) > 0 {
			weight = float64(50+s.random.IntN(5000)) / 1000
		}
		if err := in.add(id, fmt.Sprintf("%s-%04d", strings.ToUpper(noun.noun[:3]), id), name, noun.category, price,
			s.random.IntN(500), weight); err != nil {
			return fmt.Errorf("products: %w", err)
		}
	}
	return in.close()
}

// orders generates the orders and their lines, ordered by day.
func (s *shop) orders(ctx context.Context, tx *sql.Tx) error {
	orders := inserter{ctx: ctx, tx: tx, table: "orders"}
	lines := inserter{ctx: ctx, tx: tx, table: "order_lines"}
	days := make([]string, shopDays+30)
	for i := range days {
		days[i] = shopOpened.AddDate(0, 0, i).Format(time.DateOnly)
	}
	for id := 1; id <= shopOrders; id++ {
		// Each five consecutive orders have 1 to 5 lines in a changing sequence, which is exactly 3 on average.
		items := 1 + (id*2+id/5)%5
		total := 0
		for line := 1; line <= items; line++ {
			product := s.random.IntN(shopProducts)
			quantity := 1 + s.random.IntN(4)
			percent := [...]int{0, 0, 0, 5, 10, 20}[s.random.IntN(6)]
			total += (quantity*s.prices[product]*(100-percent) + 50) / 100
			if err := lines.add(id, line, product+1, quantity, s.prices[product], float64(percent)/100); err != nil {
				return fmt.Errorf("order lines: %w", err)
			}
		}
		day := (id - 1) * shopDays / shopOrders
		status := [...]string{"new", "paid", "shipped", "shipped", "shipped", "shipped", "shipped", "returned"}[s.random.IntN(8)]
		var shipped, note any
		if status == "shipped" || status == "returned" {
			shipped = days[day+1+s.random.IntN(9)]
		}
		if s.random.IntN(6) == 0 {
			note = pick(s, shopNotes)
		}
		if err := orders.add(id, days[day], 1+s.random.IntN(shopCustomers), status, items, total, shipped, note); err != nil {
			return fmt.Errorf("orders: %w", err)
		}
	}
	if err := lines.close(); err != nil {
		return fmt.Errorf("order lines: %w", err)
	}
	return orders.close()
}

func pick[T any](s *shop, list []T) T { return list[s.random.IntN(len(list))] }
