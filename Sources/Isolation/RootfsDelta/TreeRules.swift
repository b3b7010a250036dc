import Glibc

/// What a tree may hold, at the sender and at the receiver.
package enum TreeRules: Sendable {
    /// A rootfs's writable layer.
    case upper
    /// CRIU's images: plain files in one directory.
    case cut

    /// Whether an object is left out: what the other side makes itself, or needs not.
    func leavesOut(_ path: [UInt8], _ status: stat) -> Bool {
        switch self {
        case .upper: isStandardDevice(path, status)
        case .cut: !path.isEmpty && !path.ends(with: Array(".img".utf8))
        }
    }

    func allows(_ kind: TreeFormat.Kind, depth: Int) -> Bool {
        switch self {
        case .upper: depth > 0 || kind.isDirectory
        case .cut: depth == 0 ? kind == .directory : depth == 1 && kind == .file
        }
    }

    /// Whether an extended attribute travels.
    ///
    /// Of overlayfs's own, only `redirect` means something at another place: the others hold file handles and device
    /// numbers of this machine, with which the mount fails there (ESTALE). `opaque` travels as a kind of directory.
    func carries(attribute: [UInt8]) -> Bool {
        guard case .upper = self else { return false }
        guard attribute.starts(with: Self.overlayPrefix) else { return true }
        return attribute == Self.overlayPrefix + Array("redirect".utf8)
    }

    static let overlayPrefix = Array("trusted.overlay.".utf8)
    static let opaqueAttribute = "trusted.overlay.opaque"

    /// The nodes that every host makes in a sandbox's /dev; numbers as in the kernel's devices.txt.
    private static let standardDevices: [String: (major: UInt64, minor: UInt64)] = [
        "dev/null": (1, 3), "dev/zero": (1, 5), "dev/full": (1, 7), "dev/random": (1, 8), "dev/urandom": (1, 9),
        "dev/tty": (5, 0),
    ]

    private func isStandardDevice(_ path: [UInt8], _ status: stat) -> Bool {
        guard status.st_mode & S_IFMT == S_IFCHR, path.starts(with: Array("dev/".utf8)),
            let device = Self.standardDevices[String(decoding: path, as: UTF8.self)]
        else { return false }
        return UInt64(status.st_rdev) == device.major << 8 | device.minor
    }
}

extension IsolationError.Code {
    /// A stream from another host is damaged, cut short or holds what no sandbox may have.
    package static let streamInvalid = IsolationError.Code(rawValue: "stream-invalid")
    /// A sandbox's files hold something that cannot be sent.
    package static let treeInvalid = IsolationError.Code(rawValue: "tree-invalid")
}

extension Array where Element == UInt8 {
    func ends(with suffix: [UInt8]) -> Bool { count >= suffix.count && self[(count - suffix.count)...] == suffix[...] }
}
