//! Panels of lines over time as an SVG picture. No library: a picture is a text.

use std::fmt::Write as _;

const WIDTH: f64 = 1_120.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 84.0;
const PANEL_HEIGHT: f64 = 150.0;
const PANEL_GAP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
/// Points of a line: about one per pixel.
const POINTS: usize = 1_000;

/// One line.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) color: &'static str,
    pub(crate) is_dashed: bool,
    /// A value per second.
    pub(crate) values: Vec<f64>,
}

/// Lines with one vertical axis.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    pub(crate) series: Vec<Series>,
}

/// Panels above one another, with one horizontal axis in minutes.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    /// So many seconds at the beginning are shaded: they do not count.
    pub(crate) n_learnt: usize,
    pub(crate) panels: Vec<Panel>,
}

impl Picture {
    pub(crate) fn to_svg(&self) -> String {
        let n_panels = self.panels.len() as f64;
        let height = TOP + n_panels * (PANEL_HEIGHT + PANEL_GAP) + BOTTOM;
        let n_seconds = self.panels.iter().flat_map(|panel| &panel.series);
        let n_seconds = n_seconds.map(|series| series.values.len()).max();
        let n_seconds = n_seconds.unwrap_or(1).max(1);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        text(&mut svg, (LEFT, 26.0), "start", 18, &self.title);
        text(&mut svg, (LEFT, 46.0), "start", 12, &self.subtitle);
        self.legend(&mut svg);
        for (index, panel) in self.panels.iter().enumerate() {
            let top = TOP + PANEL_GAP / 2.0 + index as f64 * (PANEL_HEIGHT + PANEL_GAP);
            if self.n_learnt > 0 {
                let width = x(self.n_learnt, n_seconds) - LEFT;
                rectangle(
                    &mut svg,
                    (LEFT, top),
                    (width, PANEL_HEIGHT),
                    "#f1f1e6",
                    "none",
                );
            }
            panel.draw(&mut svg, top, n_seconds);
        }
        minutes(&mut svg, height - BOTTOM, n_seconds);
        svg.push_str("</svg>\n");
        svg
    }

    fn legend(&self, svg: &mut String) {
        let Some(panel) = self.panels.iter().max_by_key(|panel| panel.series.len()) else {
            return;
        };
        let mut left = LEFT;
        for series in &panel.series {
            line(svg, series, &format!("M{left} 64h28"));
            text(svg, (left + 34.0, 68.0), "start", 12, &series.name);
            left += 50.0 + 7.0 * series.name.len() as f64;
        }
        if self.n_learnt > 0 {
            rectangle(svg, (left, 58.0), (28.0, 12.0), "#f1f1e6", "#cccccc");
            text(
                svg,
                (left + 34.0, 68.0),
                "start",
                12,
                "learning, not counted",
            );
        }
    }
}

impl Panel {
    fn draw(&self, svg: &mut String, top: f64, n_seconds: usize) {
        let values = self.series.iter().flat_map(|series| &series.values);
        let most = values.copied().fold(0.0, f64::max);
        let step = round_step(most / 4.0);
        let most = step * (most / step).ceil().max(1.0);
        let y = |value: f64| top + PANEL_HEIGHT * (1.0 - value / most);
        text(svg, (LEFT, top - 6.0), "start", 13, self.title);
        let mut tick = 0.0;
        while tick <= most + step / 2.0 {
            let height = y(tick);
            writes(
                svg,
                format_args!(
                    "<path d=\"M{LEFT} {height:.1}H{:.1}\" stroke=\"#dddddd\"/>\n",
                    WIDTH - RIGHT
                ),
            );
            text(
                svg,
                (LEFT - 6.0, height + 4.0),
                "end",
                11,
                &format!("{tick}"),
            );
            tick += step;
        }
        let size = (WIDTH - LEFT - RIGHT, PANEL_HEIGHT);
        rectangle(svg, (LEFT, top), size, "none", "#888888");
        // What is named first is drawn last, on top.
        for series in self.series.iter().rev() {
            line(svg, series, &series.path(n_seconds, y));
        }
    }
}

impl Series {
    /// Returns the line as steps, each as high as the highest second that falls on it.
    fn path(&self, n_seconds: usize, y: impl Fn(f64) -> f64) -> String {
        let chunk = n_seconds.div_ceil(POINTS).max(1);
        let mut path = String::new();
        for (index, seconds) in self.values.chunks(chunk).enumerate() {
            let most = seconds.iter().copied().fold(0.0, f64::max);
            let (left, height) = (x(index * chunk, n_seconds), y(most));
            if index == 0 {
                writes(&mut path, format_args!("M{left:.1} {height:.1}"));
            } else {
                writes(&mut path, format_args!("H{left:.1}V{height:.1}"));
            }
        }
        path
    }
}

fn x(second: usize, n_seconds: usize) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * second as f64 / n_seconds as f64
}

/// Draws the horizontal axis.
fn minutes(svg: &mut String, top: f64, n_seconds: usize) {
    let n_minutes = n_seconds as f64 / 60.0;
    let step = round_step(n_minutes / 10.0).max(1.0) as usize;
    for minute in (0..=n_minutes as usize).step_by(step) {
        let left = x(minute * 60, n_seconds);
        text(svg, (left, top + 4.0), "middle", 11, &minute.to_string());
    }
    text(svg, (WIDTH / 2.0, top + 24.0), "middle", 12, "minutes");
}

/// Returns 1, 2 or 5 times a power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    let least = least.max(1e-9);
    let power = 10_f64.powf(least.log10().floor());
    let factors = [1.0, 2.0, 5.0].into_iter();
    let factor = factors
        .map(|factor| factor * power)
        .find(|step| *step >= least);
    factor.unwrap_or(10.0 * power)
}

fn line(svg: &mut String, series: &Series, path: &str) {
    let dashes = if series.is_dashed {
        " stroke-dasharray=\"5 3\""
    } else {
        ""
    };
    let color = series.color;
    writes(
        svg,
        format_args!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.6\"{dashes}/>\n"
        ),
    );
}

fn rectangle(
    svg: &mut String,
    (x, y): (f64, f64),
    (width, height): (f64, f64),
    fill: &str,
    stroke: &str,
) {
    writes(
        svg,
        format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\" stroke=\"{stroke}\"/>\n"
        ),
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, size: u32, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    writes(
        svg,
        format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" fill=\"#222222\">{content}</text>\n"
        ),
    );
}

fn writes(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (least, step) in [
            (0.3, 0.5),
            (1.0, 1.0),
            (1.2, 2.0),
            (6.0, 10.0),
            (240.0, 500.0),
        ] {
            assert_eq!(round_step(least), step, "{least}");
        }
    }

    #[test]
    fn a_picture_holds_its_lines_and_escapes_its_texts() {
        let series = Series {
            name: "a<b".to_owned(),
            color: "#000000",
            is_dashed: true,
            values: vec![0.0, 4.0, 2.0],
        };
        let picture = Picture {
            title: "t".to_owned(),
            subtitle: String::new(),
            n_learnt: 1,
            panels: vec![Panel {
                title: "p",
                series: vec![series],
            }],
        };
        let svg = picture.to_svg();
        assert!(svg.contains("a&lt;b"));
        // Zero at the bottom of the panel (251), four at its top (101), two half-way.
        assert!(svg.contains("M64.0 251.0H409.3V101.0H754.7V176.0"), "{svg}");
    }
}
