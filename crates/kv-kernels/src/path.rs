//! The instruction set of the kernels: detected at run time, chosen once per process.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::lanes::{Array, Kernel, Lanes};

/// An instruction set that the kernels are compiled for.
///
/// The names are `avx512-vnni`, `avx512`, `avx2`, `neon` and `portable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelPath {
    /// Like `Avx512`, with integer dot products of bytes for quantized rows.
    Avx512Vnni,
    /// x86-64 with AVX-512 F, BW, DQ and VL: 16 values at a time, 32 registers.
    Avx512,
    /// x86-64 with AVX2, FMA and F16C: 8 values at a time, 16 registers, with integer dot products of words for quantized
    /// rows.
    Avx2,
    /// AArch64 with NEON: 4 values at a time, 32 registers.
    Neon,
    /// Plain Rust for any machine: 8 values at a time, in the registers that the compiler uses.
    Portable,
}

/// A path that cannot be selected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The name is not that of a path.
    #[error("unknown kernel path `{name}`; known are avx512-vnni, avx512, avx2, neon, portable")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The machine lacks the instructions.
    #[error("kernel path `{path}` needs instructions that this machine does not have; it has {}", list(available))]
    Unavailable {
        /// The requested path.
        path: KernelPath,
        /// The paths that this machine supports.
        available: Vec<KernelPath>,
    },
    /// Another path has already been selected or used.
    #[error("kernel path `{path}` comes too late: this process already runs on `{current}`, which is chosen once")]
    AlreadyChosen {
        /// The requested path.
        path: KernelPath,
        /// The path of this process.
        current: KernelPath,
    },
}

static CURRENT: OnceLock<KernelPath> = OnceLock::new();

impl KernelPath {
    const ALL: [KernelPath; 5] = [KernelPath::Avx512Vnni, KernelPath::Avx512, KernelPath::Avx2, KernelPath::Neon, KernelPath::Portable];

    /// The paths that this machine supports, best first. `Portable` is always one of them.
    pub fn available() -> Vec<KernelPath> {
        KernelPath::ALL.into_iter().filter(|path| path.is_available()).collect()
    }

    /// The path of all kernels in this process: the best available one, unless [`select`](Self::select) chose another.
    pub fn current() -> KernelPath {
        *CURRENT.get_or_init(|| KernelPath::available()[0])
    }

    /// Makes all kernels of this process use the path.
    ///
    /// # Errors
    /// [`PathError::Unavailable`] if the machine lacks the instructions, [`PathError::AlreadyChosen`] if another path
    /// has already been selected or used.
    pub fn select(self) -> Result<(), PathError> {
        if !self.is_available() {
            return Err(PathError::Unavailable { path: self, available: KernelPath::available() });
        }
        let current = *CURRENT.get_or_init(|| self);
        if current == self { Ok(()) } else { Err(PathError::AlreadyChosen { path: self, current }) }
    }

    fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            KernelPath::Avx512Vnni => crate::lanes::Avx512::detect_vnni().is_some() && crate::lanes::Avx2::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            KernelPath::Avx512 => crate::lanes::Avx512::detect().is_some() && crate::lanes::Avx2::detect().is_some(),
            #[cfg(target_arch = "x86_64")]
            KernelPath::Avx2 => crate::lanes::Avx2::detect().is_some(),
            #[cfg(target_arch = "aarch64")]
            KernelPath::Neon => crate::lanes::Neon::detect().is_some(),
            KernelPath::Portable => true,
            _ => false,
        }
    }

    /// Runs a kernel on the widest vectors of the path that divide `unit`, the number of contiguous values in every row
    /// that the kernel reads. If no vector divides it, the kernel runs value by value.
    pub(crate) fn run<K: Kernel>(self, unit: usize, kernel: K) -> K::Output {
        let fits = |width: usize| unit.is_multiple_of(width);
        #[cfg(target_arch = "x86_64")]
        {
            let wide = match self {
                KernelPath::Avx512Vnni => crate::lanes::Avx512::detect_vnni(),
                KernelPath::Avx512 => crate::lanes::Avx512::detect(),
                _ => None,
            };
            if let Some(lanes) = wide
                && fits(crate::lanes::Avx512::WIDTH)
            {
                return lanes.run(kernel);
            }
            if let KernelPath::Avx512Vnni | KernelPath::Avx512 | KernelPath::Avx2 = self
                && let Some(lanes) = crate::lanes::Avx2::detect()
                && fits(crate::lanes::Avx2::WIDTH)
            {
                return lanes.run(kernel);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if let (KernelPath::Neon, Some(lanes)) = (self, crate::lanes::Neon::detect())
            && fits(crate::lanes::Neon::WIDTH)
        {
            return lanes.run(kernel);
        }
        if fits(8) { Array::<8>.run(kernel) } else { Array::<1>.run(kernel) }
    }
}

impl fmt::Display for KernelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KernelPath::Avx512Vnni => "avx512-vnni",
            KernelPath::Avx512 => "avx512",
            KernelPath::Avx2 => "avx2",
            KernelPath::Neon => "neon",
            KernelPath::Portable => "portable",
        })
    }
}

impl FromStr for KernelPath {
    type Err = PathError;

    fn from_str(name: &str) -> Result<KernelPath, PathError> {
        let named = KernelPath::ALL.into_iter().find(|path| path.to_string() == name);
        named.ok_or_else(|| PathError::Unknown { name: name.to_owned() })
    }
}

fn list(paths: &[KernelPath]) -> String {
    paths.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_a_wrong_one_is_told_what_is_known() {
        for path in KernelPath::ALL {
            assert_eq!(path.to_string().parse(), Ok(path));
        }
        assert_eq!(
            "sse9".parse::<KernelPath>().unwrap_err().to_string(),
            "unknown kernel path `sse9`; known are avx512-vnni, avx512, avx2, neon, portable"
        );
    }

    #[test]
    fn a_path_of_another_architecture_is_refused_with_what_there_is() {
        let foreign = if cfg!(target_arch = "aarch64") { KernelPath::Avx2 } else { KernelPath::Neon };
        let message = foreign.select().unwrap_err().to_string();
        assert!(message.contains("does not have") && message.ends_with("`portable`"), "{message}");
    }
}
