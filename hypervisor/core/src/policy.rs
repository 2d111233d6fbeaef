//! Who may do what: every privilege decision of the hypervisor.
//!
//! The default is SILO, as on Debian: two unprivileged domains have nothing to do with each other. Asked before any shared lock is taken.
//! Source: xen/include/xsm and docs/misc/xsm-flask.txt describe the model; the answers are those of Debian's Xen 4.20.

use crate::addr::DomainId;

/// Who asks: what policy needs to know of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subject {
    /// The domain.
    pub id: DomainId,
    /// Whether it is the control domain (and hardware domain).
    pub privileged: bool,
}

/// The policy in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// Unprivileged domains cannot share with each other.
    #[default]
    Silo,
    /// `xsm=dummy`: they can.
    Dummy,
}

impl Policy {
    /// May `a` and `b` share: event channels, grants, copies?
    pub fn may_share(self, a: Subject, b: Subject) -> bool {
        self == Self::Dummy || a.privileged || b.privileged || a.id == b.id
    }
}

/// May `caller` act on `target` (memory, parameters, status) as only itself or the control domain may?
pub fn may_target(caller: Subject, target: Subject) -> bool {
    caller.privileged || caller.id == target.id
}

/// May `caller` use the toolstack's interface: domctl, sysctl, platform_op?
pub fn may_control(caller: Subject) -> bool {
    caller.privileged
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOM0: Subject = Subject { id: DomainId(0), privileged: true };
    const A: Subject = Subject { id: DomainId(1), privileged: false };
    const B: Subject = Subject { id: DomainId(2), privileged: false };

    #[test]
    fn silo_separates_unprivileged_domains() {
        assert!(!Policy::Silo.may_share(A, B));
        assert!(Policy::Silo.may_share(A, A));
        assert!(Policy::Silo.may_share(A, DOM0) && Policy::Silo.may_share(DOM0, B));
        assert!(Policy::Dummy.may_share(A, B));
    }

    #[test]
    fn only_the_control_domain_acts_on_others() {
        assert!(may_target(DOM0, A) && may_target(A, A) && !may_target(A, B) && !may_target(A, DOM0));
        assert!(may_control(DOM0) && !may_control(A));
    }
}
