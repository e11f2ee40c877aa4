//! Tables without borders, as wide as their contents.

use comfy_table::{ContentArrangement, Table, presets::NOTHING};

/// Rows under headings, each line ended; as wide as its contents, so that no cell is ever cut or wrapped: `grep` and
/// `awk` find what they look for.
pub fn render(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.to_vec());
    table.add_rows(
        rows.into_iter().map(|row| row.into_iter().map(|cell| on_one_line(&cell)).collect::<Vec<_>>()),
    );
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    super::text::lines(table.lines().map(|line| line.trim_end().to_owned()))
}

/// A row is a line, whatever a program or a person put into a cell.
fn on_one_line(cell: &str) -> String {
    cell.replace(['\n', '\r', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_look_and_rows_are_lines() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = render(&["NAME", "SAYS"], vec![row(["日本", "a\nb"]), row(["web", "c"])]);
        assert_eq!(text, "NAME  SAYS\n日本  a b\nweb   c\n");
    }
}
