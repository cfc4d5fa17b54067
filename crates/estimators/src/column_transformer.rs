//! ColumnTransformer and FeatureUnion: parts of a table through transformers of their own, side by side.

use coracle_model::{
    Accepts, ColumnKind, ColumnSpec, Estimator, KnownValue, Method, MethodSpec, RunError,
    RunErrorKind, Width, tensor_of,
};
use coracle_tensor::{
    Cell, Column, Columns, DType, Frame, OwnedColumn, Rows, Table, Tensor, Values,
};

use crate::scaler::transform_spec;
use crate::spec_error::SpecError;
use crate::{shown_names, table};

/// What happens to a block's columns.
#[derive(Debug)]
pub enum BlockAction {
    /// They stay as they are.
    Passthrough,
    /// A transformer.
    Transform(Box<dyn Estimator>),
}

/// Some columns and what happens to them.
#[derive(Debug)]
pub struct Block {
    /// The user's name for it.
    pub name: String,
    /// The columns, by position in the table.
    pub columns: Vec<usize>,
    /// What happens to them.
    pub action: BlockAction,
    /// What the results are multiplied by.
    pub weight: Option<f64>,
}

/// A transformer that sends blocks of columns through transformers and puts the results side by side.
#[derive(Debug)]
pub struct ColumnTransformer {
    n_features: usize,
    blocks: Vec<Block>,
    names: Vec<String>,
    /// What each column holds, where one holds texts or is not read.
    specs: Option<Vec<ColumnSpec>>,
    transformed: Option<Vec<ColumnKind>>,
    accepts: Accepts,
    n_columns_out: usize,
    methods: [MethodSpec; 1],
}

impl ColumnTransformer {
    /// Returns a transformer of tables with `n_features` columns; `names` are shown in messages.
    ///
    /// `taken` is what the estimator that reads the result takes in each column of it, or empty if that is not known:
    /// columns that pass through hold what it takes there, numbers otherwise.
    ///
    /// # Errors
    /// [`SpecError`] if a column does not exist or is read as numbers and as texts, widths disagree, a part does not
    /// transform, or nothing comes out.
    pub fn try_new(
        n_features: usize,
        blocks: Vec<Block>,
        names: Option<&[String]>,
        taken: &[ColumnSpec],
    ) -> Result<Self, SpecError> {
        if let Some(names) = names.filter(|names| names.len() != n_features) {
            let message = format!("{} names for {n_features} columns", names.len());
            return Err(SpecError::new(message));
        }
        let names = shown_names(names, n_features);
        let specs = column_specs(n_features, &blocks, &names, taken)?;
        let mut transformed = Vec::new();
        for block in &blocks {
            transformed.extend(block_output(block, &specs)?);
        }
        if transformed.is_empty() {
            return Err(SpecError::new("no column is left"));
        }
        let has_text = transformed.iter().any(|&kind| is_text(kind));
        let mut method = transform_spec(transformed.len());
        if has_text {
            method.dtype = DType::Bytes;
        } else if blocks.iter().all(gives_truths) {
            method.dtype = DType::Bool;
        }
        let all_numbers = specs.iter().all(|spec| spec.kind == ColumnKind::Numbers);
        Ok(Self {
            n_features,
            names,
            accepts: Accepts {
                missing: specs.iter().any(|spec| spec.accepts_missing),
                magnitude_max: f64::INFINITY,
            },
            specs: (!all_numbers).then_some(specs),
            n_columns_out: transformed.len(),
            transformed: has_text.then_some(transformed),
            methods: [method],
            blocks,
        })
    }

    /// Runs one block.
    fn run_block(&self, block: &Block, table: &Table<'_>) -> Result<Frame, RunError> {
        let takes_numbers = match &block.action {
            BlockAction::Passthrough => false,
            BlockAction::Transform(estimator) => estimator.columns().is_none(),
        };
        let is_matrix = matches!(table, Table::Matrix(_));
        let mut frame = if takes_numbers || is_matrix {
            self.run_on_numbers(block, table)?
        } else {
            self.run_on_columns(block, table)?
        };
        if let Some(weight) = block.weight {
            multiply(&mut frame, weight);
        }
        Ok(frame)
    }

    fn run_on_numbers(&self, block: &Block, table: &Table<'_>) -> Result<Frame, RunError> {
        let mut values = Vec::new();
        table
            .gather(&block.columns, &mut values)
            .map_err(|place| self.wrong_kind(block, place))?;
        let n_columns = block.columns.len();
        let BlockAction::Transform(estimator) = &block.action else {
            return Ok(Frame::Matrix { values, n_columns });
        };
        let accepts = estimator.accepts();
        for (at, &value) in values.iter().enumerate() {
            // The estimator would find it too, but knows the column by its place in the block.
            if value.abs() <= accepts.magnitude_max {
                continue;
            }
            if let Some((kind, what)) = accepts.complaint(value) {
                let name = self.name(block, at % n_columns);
                let message = format!("row {}, column {name}: {what}", at / n_columns);
                return Err(RunError::new(kind, message));
            }
        }
        let rows = Rows::try_new(&values, n_columns).ok_or_else(ragged)?;
        estimator
            .transform_table(&Table::Matrix(rows))
            .map_err(|error| at_block(block, &error))
    }

    fn run_on_columns(&self, block: &Block, table: &Table<'_>) -> Result<Frame, RunError> {
        let BlockAction::Transform(estimator) = &block.action else {
            return Ok(Frame::Columns(selected(table, &block.columns)));
        };
        let transformed = match table {
            Table::Columns(columns) => {
                let picked = block
                    .columns
                    .iter()
                    .map(|&at| columns.as_slice()[at])
                    .collect();
                let picked = Columns::try_new(picked).ok_or_else(ragged)?;
                estimator.transform_table(&Table::Columns(picked))
            }
            Table::Matrix(_) | Table::Sparse(_) => {
                let picked = Frame::Columns(selected(table, &block.columns));
                estimator.transform_table(&picked.as_table().ok_or_else(ragged)?)
            }
        };
        transformed.map_err(|error| at_block(block, &error))
    }

    fn name(&self, block: &Block, place: usize) -> &str {
        let column = block.columns.get(place);
        column
            .and_then(|&column| self.names.get(column))
            .map_or("?", String::as_str)
    }

    fn wrong_kind(&self, block: &Block, place: usize) -> RunError {
        let name = self.name(block, place);
        let message = format!("column {name}: expected numbers, got strings");
        RunError::new(RunErrorKind::DTypeMismatch, message)
    }
}

fn ragged() -> RunError {
    RunError::new(RunErrorKind::Internal, "a block of columns is ragged")
}

fn at_block(block: &Block, error: &RunError) -> RunError {
    RunError::new(error.kind(), format!("'{}': {error}", block.name))
}

/// Returns what each column of the table holds, from what reads it.
fn column_specs(
    n_features: usize,
    blocks: &[Block],
    names: &[String],
    taken: &[ColumnSpec],
) -> Result<Vec<ColumnSpec>, SpecError> {
    const UNREAD: ColumnSpec = ColumnSpec {
        kind: ColumnKind::Ignored,
        accepts_missing: true,
    };
    let mut specs = vec![UNREAD; n_features];
    let mut starts = Vec::with_capacity(blocks.len());
    let mut start = 0;
    for block in blocks {
        starts.push(start);
        start += block_width(block)?;
    }
    // What passes through takes the kind that others see in it, so it comes last.
    let passes = |block: &Block| matches!(block.action, BlockAction::Passthrough);
    let (passing, reading): (Vec<_>, Vec<_>) = blocks
        .iter()
        .zip(starts)
        .partition(|(block, _)| passes(block));
    for (block, start) in reading.into_iter().chain(passing) {
        for (place, &column) in block.columns.iter().enumerate() {
            let spec = specs.get_mut(column).ok_or_else(|| {
                SpecError::new(format!(
                    "'{}' takes column {column}; there are {n_features}",
                    block.name
                ))
            })?;
            let wanted = match taken.get(start + place) {
                Some(&taken) if passes(block) && taken.kind != ColumnKind::Numbers => taken,
                _ => block_input(block, place, spec.kind),
            };
            let Some(kind) = read_as(spec.kind, wanted.kind) else {
                let name = names.get(column).map_or("?", String::as_str);
                return Err(SpecError::new(format!(
                    "column {name} is read as numbers and as texts"
                )));
            };
            spec.kind = kind;
            if wanted.kind != ColumnKind::Ignored {
                spec.accepts_missing &= wanted.accepts_missing;
            }
        }
    }
    Ok(specs)
}

fn is_text(kind: ColumnKind) -> bool {
    matches!(kind, ColumnKind::Text | ColumnKind::Category)
}

/// Returns what a column holds that is read as both; `None` if nothing can be.
fn read_as(one: ColumnKind, other: ColumnKind) -> Option<ColumnKind> {
    match (one, other) {
        (ColumnKind::Ignored, kind) | (kind, ColumnKind::Ignored) => Some(kind),
        // Categories are texts or numbers, whichever the others read.
        (ColumnKind::Category, kind) | (kind, ColumnKind::Category) => Some(kind),
        (one, other) => (one == other).then_some(one),
    }
}

/// Returns what a block takes at one of its places; `seen` is what others take there.
fn block_input(block: &Block, place: usize, seen: ColumnKind) -> ColumnSpec {
    let numbers = |accepts_missing| ColumnSpec {
        kind: ColumnKind::Numbers,
        accepts_missing,
    };
    match &block.action {
        BlockAction::Passthrough if is_text(seen) => ColumnSpec {
            kind: seen,
            accepts_missing: true,
        },
        BlockAction::Passthrough => numbers(true),
        BlockAction::Transform(estimator) => match estimator.columns() {
            Some(specs) => specs.get(place).copied().unwrap_or(numbers(false)),
            None => numbers(estimator.accepts().missing),
        },
    }
}

/// Returns what each column that comes out of a block holds.
fn block_output(block: &Block, specs: &[ColumnSpec]) -> Result<Vec<ColumnKind>, SpecError> {
    let BlockAction::Transform(estimator) = &block.action else {
        let kinds = block.columns.iter().filter_map(|&column| specs.get(column));
        return Ok(kinds.map(|spec| spec.kind).collect());
    };
    if estimator.n_features() != block.columns.len() {
        return Err(SpecError::new(format!(
            "'{}' takes {} columns, {} are selected",
            block.name,
            estimator.n_features(),
            block.columns.len()
        )));
    }
    let width = block_width(block)?;
    Ok(match estimator.transformed() {
        Some(kinds) => kinds.to_vec(),
        None => vec![ColumnKind::Numbers; width],
    })
}

/// Returns how many columns come out of a block.
fn block_width(block: &Block) -> Result<usize, SpecError> {
    let BlockAction::Transform(estimator) = &block.action else {
        return Ok(block.columns.len());
    };
    let methods = estimator.methods().iter();
    let width = methods
        .filter(|spec| spec.method == Method::Transform)
        .find_map(|spec| match spec.width {
            Width::Columns(width) => Some(width),
            Width::Scalar | Width::Outputs(..) => None,
        });
    width.ok_or_else(|| SpecError::new(format!("'{}' does not transform to a table", block.name)))
}

/// Tells whether truth values come out of a block; multiplied they are numbers.
fn gives_truths(block: &Block) -> bool {
    let BlockAction::Transform(estimator) = &block.action else {
        return false;
    };
    let mut methods = estimator.methods().iter();
    let is_truth =
        |spec: &MethodSpec| spec.method == Method::Transform && spec.dtype == DType::Bool;
    block.weight.is_none() && methods.any(is_truth)
}

/// Copies columns of a table.
fn selected(table: &Table<'_>, columns: &[usize]) -> Vec<OwnedColumn> {
    let copied = columns.iter().map(|&column| match table {
        Table::Columns(all) => match all.as_slice()[column] {
            Column::Numbers(numbers) => OwnedColumn::Numbers(numbers.to_vec()),
            Column::Text(texts) => OwnedColumn::Text(texts.clone()),
        },
        Table::Matrix(_) | Table::Sparse(_) => OwnedColumn::Numbers(numbers_of(table, column)),
    });
    copied.collect()
}

/// Returns a column of numbers; texts become missing.
fn numbers_of(table: &Table<'_>, column: usize) -> Vec<f64> {
    let cells = (0..table.n_rows()).map(|row| table.cell(row, column));
    cells
        .map(|cell| match cell {
            Cell::Number(number) => number,
            Cell::Text(_) => f64::NAN,
        })
        .collect()
}

fn multiply(frame: &mut Frame, weight: f64) {
    let scale = |values: &mut [f64]| {
        for value in values {
            *value *= weight;
        }
    };
    match frame {
        Frame::Matrix { values, .. } => scale(values),
        Frame::Sparse(rows) => {
            for row in 0..rows.n_rows() {
                scale(rows.row_mut(row).1);
            }
        }
        Frame::Columns(columns) => {
            for column in columns {
                if let OwnedColumn::Numbers(numbers) = column {
                    scale(numbers);
                }
            }
        }
    }
}

/// Puts tables side by side, in the layout that the widest of them demands.
fn side_by_side(mut frames: Vec<Frame>, n_rows: usize, width: usize) -> Result<Frame, RunError> {
    if frames.len() == 1
        && let Some(frame) = frames.pop()
    {
        return Ok(frame);
    }
    let tables: Option<Vec<Table<'_>>> = frames.iter().map(Frame::as_table).collect();
    let tables = tables.ok_or_else(ragged)?;
    if tables.iter().any(|table| table.n_rows() != n_rows) {
        return Err(ragged());
    }
    let has = |layout: fn(&Table<'_>) -> bool| tables.iter().any(layout);
    if has(|table| matches!(table, Table::Columns(_))) && !all_numbers(&tables) {
        return Ok(joined_columns(&tables));
    }
    if has(|table| matches!(table, Table::Sparse(_))) {
        return joined_sparse(&tables, n_rows, width);
    }
    let mut values = vec![0.0; n_rows * width];
    let mut start = 0;
    for table in &tables {
        for (row, values) in values.chunks_exact_mut(width.max(1)).enumerate() {
            let part = &mut values[start..start + table.n_columns()];
            match table {
                Table::Matrix(rows) => part.copy_from_slice(rows.row(row)),
                Table::Sparse(_) | Table::Columns(_) => fill_row(table, row, part),
            }
        }
        start += table.n_columns();
    }
    Ok(Frame::Matrix {
        values,
        n_columns: width,
    })
}

fn fill_row(table: &Table<'_>, row: usize, part: &mut [f64]) {
    for (column, value) in part.iter_mut().enumerate() {
        if let Cell::Number(number) = table.cell(row, column) {
            *value = number;
        }
    }
}

fn all_numbers(tables: &[Table<'_>]) -> bool {
    tables.iter().all(|table| match table {
        Table::Columns(columns) => {
            let mut columns = columns.as_slice().iter();
            columns.all(|column| matches!(column, Column::Numbers(_)))
        }
        Table::Matrix(_) | Table::Sparse(_) => true,
    })
}

fn joined_columns(tables: &[Table<'_>]) -> Frame {
    let columns = tables.iter().flat_map(|table| {
        let all: Vec<usize> = (0..table.n_columns()).collect();
        selected(table, &all)
    });
    Frame::Columns(columns.collect())
}

fn joined_sparse(tables: &[Table<'_>], n_rows: usize, width: usize) -> Result<Frame, RunError> {
    let mut sparse = table::sparse(width)?;
    for row in 0..n_rows {
        let mut start = 0;
        for table in tables {
            if let Table::Sparse(rows) = table {
                let (columns, values) = rows.row(row);
                for (&column, &value) in columns.iter().zip(values) {
                    sparse.push(table::narrow(start + column as usize), value);
                }
            } else {
                for column in 0..table.n_columns() {
                    if let Cell::Number(number) = table.cell(row, column)
                        && number != 0.0
                    {
                        sparse.push(table::narrow(start + column), number);
                    }
                }
            }
            start += table.n_columns();
        }
        sparse.end_row();
    }
    Ok(Frame::Sparse(sparse))
}

impl Estimator for ColumnTransformer {
    fn n_features(&self) -> usize {
        self.n_features
    }

    fn accepts(&self) -> Accepts {
        self.accepts
    }

    fn methods(&self) -> &[MethodSpec] {
        &self.methods
    }

    fn known_value(&self, column: usize) -> Option<KnownValue> {
        self.blocks.iter().find_map(|block| {
            let BlockAction::Transform(estimator) = &block.action else {
                return None;
            };
            let place = block.columns.iter().position(|&read| read == column)?;
            estimator.known_value(place)
        })
    }

    fn columns(&self) -> Option<&[ColumnSpec]> {
        self.specs.as_deref()
    }

    fn transformed(&self) -> Option<&[ColumnKind]> {
        self.transformed.as_deref()
    }

    fn run(&self, method: Method, rows: Rows<'_>) -> Result<Tensor, RunError> {
        self.run_table(method, &Table::Matrix(rows))
    }

    fn run_table(&self, method: Method, table: &Table<'_>) -> Result<Tensor, RunError> {
        if method != Method::Transform {
            return Err(table::no_method(method));
        }
        let tensor = tensor_of(self.transform_table(table)?)?;
        let [MethodSpec { dtype, .. }] = self.methods;
        let values = match (dtype, tensor.values()) {
            (DType::Bool, Values::F64(numbers)) => numbers.iter().map(|&x| x != 0.0).collect(),
            _ => return Ok(tensor),
        };
        Tensor::try_new(tensor.shape().to_vec(), Values::Bool(values)).map_err(table::internal)
    }

    fn transform_table(&self, table: &Table<'_>) -> Result<Frame, RunError> {
        table::check_width(table.n_columns(), self.n_features)?;
        let blocks = self.blocks.iter();
        let frames: Result<Vec<Frame>, RunError> =
            blocks.map(|block| self.run_block(block, table)).collect();
        side_by_side(frames?, table.n_rows(), self.n_columns_out)
    }

    fn memory_bytes(&self) -> usize {
        let blocks = self.blocks.iter().map(|block| match &block.action {
            BlockAction::Passthrough => 0,
            BlockAction::Transform(estimator) => estimator.memory_bytes(),
        });
        blocks.sum()
    }
}

#[cfg(test)]
mod tests {
    use coracle_tensor::ByteStrings;

    use super::*;
    use crate::{Categories, Category, OneHotColumn, OneHotEncoder, Scaler, ScalerStep, Unknown};

    fn one_hot(categories: &[Category]) -> BlockAction {
        let column = OneHotColumn {
            categories: Categories::try_new(categories).unwrap(),
            outputs: (0..categories.len()).map(Some).collect(),
            width: categories.len(),
            unknown: Unknown::Zeros,
        };
        let encoder = OneHotEncoder::try_new(vec![column], vec!["\"city\"".to_owned()]);
        BlockAction::Transform(Box::new(encoder.unwrap()))
    }

    fn block(columns: &[usize], action: BlockAction) -> Block {
        Block {
            name: "part".to_owned(),
            columns: columns.to_vec(),
            action,
            weight: None,
        }
    }

    fn doubler() -> BlockAction {
        let scaler = Scaler::try_new(1, vec![ScalerStep::Multiply(vec![2.0])]).unwrap();
        BlockAction::Transform(Box::new(scaler))
    }

    fn cities() -> [Category; 2] {
        ["Bonn", "Ulm"].map(|city| Category::Text(city.to_owned()))
    }

    #[test]
    fn parts_stand_side_by_side_in_their_order() {
        let names = ["city", "unused", "age"].map(str::to_owned);
        let blocks = vec![
            block(&[2], doubler()),
            block(&[0], one_hot(&cities())),
            block(&[2], BlockAction::Passthrough),
        ];
        let transformer = ColumnTransformer::try_new(3, blocks, Some(&names), &[]).unwrap();
        let kinds: Vec<_> = transformer
            .columns()
            .unwrap()
            .iter()
            .map(|spec| spec.kind)
            .collect();
        assert_eq!(
            kinds,
            [ColumnKind::Text, ColumnKind::Ignored, ColumnKind::Numbers]
        );
        let texts: ByteStrings = ["Ulm", "Rom"].into_iter().collect();
        let ages = [30.0, 41.0];
        let table = Columns::try_new(vec![
            Column::Text(&texts),
            Column::Numbers(&[0.0, 0.0]),
            Column::Numbers(&ages),
        ]);
        let table = Table::Columns(table.unwrap());
        let transformed = transformer.run_table(Method::Transform, &table).unwrap();
        let expected = vec![60.0, 0.0, 1.0, 30.0, 82.0, 0.0, 0.0, 41.0];
        assert_eq!(transformed.shape(), [2, 4]);
        assert_eq!(transformed.values(), &Values::F64(expected.into()));
    }

    #[test]
    fn errors_name_the_users_column() {
        let names = ["a", "age"].map(str::to_owned);
        let blocks = vec![block(&[1], doubler()), block(&[0], doubler())];
        let transformer = ColumnTransformer::try_new(2, blocks, Some(&names), &[]).unwrap();
        assert_eq!(transformer.columns(), None);
        let rows = Rows::try_new(&[1.0, f64::INFINITY], 2).unwrap();
        let error = transformer.run(Method::Transform, rows).unwrap_err();
        assert!(
            error.to_string().starts_with("row 0, column \"age\": inf"),
            "{error}"
        );
    }

    #[test]
    fn what_passes_through_holds_what_is_taken_after_it() {
        let category = ColumnSpec {
            kind: ColumnKind::Category,
            accepts_missing: false,
        };
        let number = ColumnSpec {
            kind: ColumnKind::Numbers,
            accepts_missing: true,
        };
        let blocks = || {
            vec![
                block(&[1], doubler()),
                block(&[0, 1], BlockAction::Passthrough),
            ]
        };
        let taken = [number, category, number];
        let transformer = ColumnTransformer::try_new(2, blocks(), None, &taken).unwrap();
        let specs = transformer.columns().unwrap();
        assert_eq!(specs[0], category);
        assert_eq!(specs[1].kind, ColumnKind::Numbers);
        let kinds = transformer.transformed().unwrap();
        let expected = [
            ColumnKind::Numbers,
            ColumnKind::Category,
            ColumnKind::Numbers,
        ];
        assert_eq!(kinds, expected);
        // The second column is doubled, and texts cannot be.
        let text = ColumnSpec {
            kind: ColumnKind::Text,
            accepts_missing: true,
        };
        let error = ColumnTransformer::try_new(2, blocks(), None, &[number, category, text]);
        assert_eq!(
            error.unwrap_err().to_string(),
            "column 1 is read as numbers and as texts"
        );
    }

    #[test]
    fn a_column_cannot_be_both_numbers_and_texts() {
        let blocks = vec![block(&[0], doubler()), block(&[0], one_hot(&cities()))];
        let error = ColumnTransformer::try_new(1, blocks, None, &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "column 0 is read as numbers and as texts"
        );
        let error =
            ColumnTransformer::try_new(1, vec![block(&[3], doubler())], None, &[]).unwrap_err();
        assert_eq!(error.to_string(), "'part' takes column 3; there are 1");
    }
}
