import Glibc
import LinuxSystem

/// Mounted base images: one read-only mount per digest, shared by all sandboxes of the host and kept while one of them
/// exists.
package struct MountedImages: Sendable {
    private let paths: HostPaths

    /// The images of a host.
    package init(paths: HostPaths) {
        self.paths = paths
    }

    /// Where an image is mounted: the hexadecimal part of its digest, below the runtime directory.
    package func mountPoint(_ digest: String) -> String {
        paths.run + "/images/" + Self.name(digest)
    }

    /// The image's file.
    package func file(_ digest: String) -> String {
        paths.images + "/" + Self.name(digest) + ".erofs"
    }

    /// Mounts an image unless it is; returns where.
    package func mount(_ digest: String) throws -> String {
        let target = mountPoint(digest)
        if Mounts.isMountPoint(target) { return target }
        let name = Self.name(digest)
        guard name.count == 64, name.allSatisfy(\.isHexDigit), Directories.exists(file(digest)) else {
            throw IsolationError(
                .imageMissing,
                cause: "the image \(digest) is not on this host",
                remedy: "`smirun image ls` lists the images; build or import it"
            )
        }
        try Directories.make(target)
        do {
            try Mounts.mount(file(digest), on: target, type: "erofs", flags: UInt(MS_RDONLY | MS_NODEV | MS_NOSUID))
        } catch {
            if error.code == EBUSY && Mounts.isMountPoint(target) { return target }
            let tooOld = error.code == ENOTBLK || error.code == ENODEV
            throw IsolationError(
                tooOld ? .hostUnsuitable : .imageInvalid,
                cause: "the image \(digest) cannot be mounted: \(error)",
                remedy: tooOld
                    ? "run a kernel from 6.12 with CONFIG_EROFS_FS_BACKED_BY_FILE"
                    : "delete the image and build it again"
            )
        }
        return target
    }

    /// Unmounts the images that no sandbox in `used` is made from.
    package func unmount(except used: Set<String>) {
        let keep = Set(used.map(Self.name))
        for name in Directories.entries(of: paths.run + "/images") where !keep.contains(name) {
            let target = paths.run + "/images/" + name
            try? Mounts.detachAll(target)
            rmdir(target)
        }
    }

    private static func name(_ digest: String) -> String {
        digest.hasPrefix("sha256:") ? String(digest.dropFirst(7)) : digest
    }
}
