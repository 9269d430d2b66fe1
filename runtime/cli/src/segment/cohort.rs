//! A part of many inputs, for one job of many.

use clap::builder::RangedU64ValueParser;
use ldseg::{Error, ErrorKind, Result};

use crate::inputs::Job;

/// Which of the inputs are this command's.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct CohortArgs {
    /// Do only this part of the inputs: every N-th from the I-th on, I from 0 to N - 1
    #[arg(long, value_name = "I", requires = "num_parts", default_value_t = 0)]
    part_id: usize,
    /// Number of parts that the inputs are shared out among
    #[arg(long, value_name = "N", requires = "part_id", value_parser = RangedU64ValueParser::<usize>::new().range(1..), default_value = "1")]
    num_parts: usize,
    /// Leave out inputs whose outputs are there and whole, whatever wrote them
    #[arg(long)]
    pub(super) skip_done: bool,
}

impl CohortArgs {
    /// This part's jobs. Names were claimed among all of them, so parts never write the same file.
    pub(super) fn part_of(self, jobs: Vec<Job>) -> Result<Vec<Job>> {
        if self.part_id >= self.num_parts {
            let message = format!("--part-id is {}, expected 0 to {}", self.part_id, self.num_parts - 1);
            return Err(Error::new(ErrorKind::Setting, message));
        }
        Ok(jobs.into_iter().skip(self.part_id).step_by(self.num_parts).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_share_out_all_jobs() {
        let part = |part_id, num_parts| {
            let jobs = ["a", "b", "c", "d", "e"].map(|name| Job {
                input: name.into(),
                files: vec![name.into()],
                name: Ok(name.into()),
            });
            CohortArgs { part_id, num_parts, skip_done: false }.part_of(jobs.into())
        };
        let names = |jobs: Vec<Job>| jobs.into_iter().map(|job| job.name.unwrap()).collect::<Vec<_>>();
        assert_eq!(names(part(0, 2).unwrap()), ["a", "c", "e"]);
        assert_eq!(names(part(1, 2).unwrap()), ["b", "d"]);
        assert_eq!(names(part(0, 1).unwrap()).len(), 5);
        assert_eq!(names(part(6, 7).unwrap()).len(), 0);
        assert_eq!(part(2, 2).unwrap_err().kind(), ErrorKind::Setting);
    }
}
