//! Tables without borders, as wide as their contents.

use anstream::println;
use comfy_table::{ContentArrangement, Table, presets::NOTHING};

/// Prints rows under headings; a table without rows is told in words instead.
pub fn print(headings: &[&str], rows: Vec<Vec<String>>, empty: &str) {
    if rows.is_empty() {
        anstream::eprintln!("{empty}");
        return;
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.to_vec());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.lines() {
        println!("{}", line.trim_end());
    }
}
