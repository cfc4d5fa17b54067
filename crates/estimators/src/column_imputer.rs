//! SimpleImputer over columns of which some hold texts.

use coracle_model::{
    Accepts, ColumnKind, ColumnSpec, Estimator, Method, MethodSpec, RunError, tensor_of,
};
use coracle_tensor::{ByteStrings, Cell, DType, Frame, OwnedColumn, Rows, Table, Tensor};

use crate::scaler::transform_spec;
use crate::spec_error::SpecError;
use crate::table;

/// What counts as missing.
#[derive(Clone, Debug, PartialEq)]
pub enum Marker {
    /// NaN, `None` or pandas' NA: `null` on the wire.
    Missing,
    /// This number.
    Number(f64),
    /// This text.
    Text(String),
}

/// What takes a missing value's place.
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    /// A number, in a column of numbers.
    Number(f64),
    /// A text, in a column of texts.
    Text(String),
    /// `None`, in a column of either: it stays missing.
    Missing,
}

/// How one column is filled.
#[derive(Clone, Debug, PartialEq)]
pub struct ImputedColumn {
    /// What the column holds.
    pub kind: ColumnKind,
    /// What takes a missing value's place; `None` drops the column.
    pub fill: Option<Fill>,
    /// Whether a missing value stays: it is `None`, and NaN alone is filled.
    pub keeps_missing: bool,
}

/// A transformer that replaces missing values in columns of numbers and texts.
#[derive(Debug)]
pub struct ColumnImputer {
    marker: Marker,
    columns: Vec<ImputedColumn>,
    /// The columns for which a 0/1 column "was missing" is appended, in order.
    indicators: Vec<usize>,
    specs: Vec<ColumnSpec>,
    transformed: Vec<ColumnKind>,
    methods: [MethodSpec; 1],
}

impl ColumnImputer {
    /// Returns an imputer of tables with these columns.
    ///
    /// # Errors
    /// [`SpecError`] if an indicator column does not exist, a fill is of another kind than its column, or nothing
    /// would be left.
    pub fn try_new(
        marker: Marker,
        columns: Vec<ImputedColumn>,
        indicators: Vec<usize>,
    ) -> Result<Self, SpecError> {
        if indicators.iter().any(|&column| column >= columns.len()) {
            return Err(SpecError::new("an indicator column does not exist"));
        }
        let mut transformed = Vec::new();
        for column in &columns {
            let fits = match (&column.fill, column.kind) {
                (Some(Fill::Number(_)), kind) => kind == ColumnKind::Numbers,
                (Some(Fill::Text(_)), kind) => kind == ColumnKind::Text,
                (Some(Fill::Missing), kind) => kind != ColumnKind::Ignored,
                (None, _) => true,
            };
            if !fits {
                return Err(SpecError::new(
                    "a fill value is of another kind than its column",
                ));
            }
            transformed.extend(column.fill.as_ref().map(|_| column.kind));
        }
        transformed.extend(indicators.iter().map(|_| ColumnKind::Numbers));
        if transformed.is_empty() {
            return Err(SpecError::new("every column would be dropped"));
        }
        let spec = |column: &ImputedColumn| ColumnSpec {
            kind: column.kind,
            accepts_missing: marker == Marker::Missing,
        };
        let mut method = transform_spec(transformed.len());
        if transformed.contains(&ColumnKind::Text) {
            method.dtype = DType::Bytes;
        }
        Ok(Self {
            specs: columns.iter().map(spec).collect(),
            marker,
            columns,
            indicators,
            transformed,
            methods: [method],
        })
    }

    #[expect(
        clippy::float_cmp,
        reason = "a marker is compared exactly, as in numpy"
    )]
    fn is_missing(&self, cell: Cell<'_>) -> bool {
        match (&self.marker, cell) {
            (Marker::Missing, Cell::Text(text)) => text.is_none(),
            (Marker::Missing, Cell::Number(number)) => number.is_nan(),
            (Marker::Text(marker), Cell::Text(text)) => text == Some(marker.as_bytes()),
            (Marker::Number(marker), Cell::Number(number)) => number == *marker,
            (Marker::Text(_), Cell::Number(_)) | (Marker::Number(_), Cell::Text(_)) => false,
        }
    }

    fn filled(
        &self,
        table: &Table<'_>,
        index: usize,
        column: &ImputedColumn,
        fill: &Fill,
    ) -> OwnedColumn {
        let cells = (0..table.n_rows()).map(|row| table.cell(row, index));
        if column.kind == ColumnKind::Text {
            let fill = match fill {
                Fill::Text(fill) => Some(fill.as_bytes()),
                Fill::Number(_) | Fill::Missing => None,
            };
            let mut texts = ByteStrings::new();
            for cell in cells {
                texts.push_optional(match cell {
                    Cell::Text(Some(text)) if !self.is_missing(cell) => Some(text),
                    Cell::Text(None) if column.keeps_missing => None,
                    _ => fill,
                });
            }
            return OwnedColumn::Text(texts);
        }
        let fill = match fill {
            Fill::Number(fill) => *fill,
            Fill::Text(_) | Fill::Missing => f64::NAN,
        };
        let filled = cells.map(|cell| match cell {
            Cell::Number(number) if !self.is_missing(cell) => number,
            Cell::Number(number) if number.is_nan() && column.keeps_missing => number,
            _ => fill,
        });
        OwnedColumn::Numbers(filled.collect())
    }
}

impl Estimator for ColumnImputer {
    fn n_features(&self) -> usize {
        self.columns.len()
    }

    fn accepts(&self) -> Accepts {
        Accepts::FINITE_OR_MISSING
    }

    fn methods(&self) -> &[MethodSpec] {
        &self.methods
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        Some(&self.specs)
    }

    fn transformed(&self) -> Option<&[ColumnKind]> {
        Some(&self.transformed)
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        self.run_table(method, &Table::Matrix(rows))
    }

    fn run_table(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        if method != Method::Transform {
            return Err(table::no_method(method));
        }
        tensor_of(self.transform_table(table)?)
    }

    fn transform_table(&self, table: &Table<'_>) -> Result<Frame, RunError> {
        table::check_width(table.n_columns(), self.n_features())?;
        table::check_kinds(table, &self.specs)?;
        let fills = self.columns.iter().enumerate();
        let mut columns: Vec<OwnedColumn> = fills
            .filter_map(|(index, column)| {
                let fill = column.fill.as_ref()?;
                Some(self.filled(table, index, column, fill))
            })
            .collect();
        columns.extend(self.indicators.iter().map(|&column| {
            let keeps_missing = self.columns[column].keeps_missing;
            let cells = (0..table.n_rows()).map(|row| table.cell(row, column));
            let missing = cells.map(|cell| self.is_missing(cell) && !keeps_missing);
            OwnedColumn::Numbers(
                missing
                    .map(|missing| f64::from(u8::from(missing)))
                    .collect(),
            )
        }));
        Ok(Frame::Columns(columns))
    }

    fn memory_bytes(&self) -> usize {
        self.columns.capacity() * size_of::<ImputedColumn>()
    }
}

#[cfg(test)]
mod tests {
    use coracle_tensor::{Column, Columns};

    use super::*;

    #[test]
    fn texts_and_numbers_are_filled_and_indicated() {
        let columns = vec![
            ImputedColumn {
                kind: ColumnKind::Text,
                fill: Some(Fill::Text("south".to_owned())),
                keeps_missing: false,
            },
            ImputedColumn {
                kind: ColumnKind::Numbers,
                fill: Some(Fill::Number(7.0)),
                keeps_missing: false,
            },
        ];
        let imputer = ColumnImputer::try_new(Marker::Missing, columns, vec![0]).unwrap();
        let mut texts = ByteStrings::new();
        texts.push(b"north");
        texts.push_missing();
        let numbers = [f64::NAN, 2.0];
        let table = Columns::try_new(vec![Column::Text(&texts), Column::Numbers(&numbers)]);
        let frame = imputer
            .transform_table(&Table::Columns(table.unwrap()))
            .unwrap();
        let expected = Frame::Columns(vec![
            OwnedColumn::Text(["north", "south"].into_iter().collect()),
            OwnedColumn::Numbers(vec![7.0, 2.0]),
            OwnedColumn::Numbers(vec![0.0, 1.0]),
        ]);
        assert_eq!(frame, expected);
    }

    #[test]
    fn fills_must_be_of_their_column() {
        let column = ImputedColumn {
            kind: ColumnKind::Numbers,
            fill: Some(Fill::Text(String::new())),
            keeps_missing: false,
        };
        assert!(ColumnImputer::try_new(Marker::Missing, vec![column], vec![]).is_err());
    }
}
