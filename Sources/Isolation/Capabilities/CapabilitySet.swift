/// The capabilities (capabilities(7)) of a sandbox's root, inside it: enough to administer its own files, users and
/// daemons, nothing that reaches the host.
package struct CapabilitySet: Sendable, Equatable {
    /// One bit per capability.
    package let bits: UInt64

    /// Bits of the numbers in <linux/capability.h>.
    package init(_ capabilities: [Capability]) {
        bits = capabilities.reduce(0) { $0 | 1 << UInt64($1.rawValue) }
    }

    /// What every sandbox has in its bounding, permitted and effective set; inheritable and ambient are empty.
    package static let sandbox = CapabilitySet([
        .chown, .dacOverride, .fowner, .fsetid, .kill, .setgid, .setuid, .setpcap, .netBindService, .sysChroot,
        .setfcap,
    ])
}

/// Numbers of the capabilities that a sandbox may have (<linux/capability.h>).
package enum Capability: Int, Sendable, CaseIterable {
    case chown = 0
    case dacOverride = 1
    case fowner = 3
    case fsetid = 4
    case kill = 5
    case setgid = 6
    case setuid = 7
    case setpcap = 8
    case netBindService = 10
    case sysChroot = 18
    case setfcap = 31
}
