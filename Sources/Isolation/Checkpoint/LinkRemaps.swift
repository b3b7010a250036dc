import CLinux
import Glibc
import LinuxSystem

/// The names (`link_remap.N`) that CRIU gives to open files which lost theirs.
///
/// CRIU removes them as soon as dumped tasks may run on, but the copy of the writable layer needs them. The preload
/// library leaves them in place when the images directory holds this list, and adds each to it.
package enum LinkRemaps {
    private static let list = "kept-link-remaps"

    /// Asks for the names to be kept, from here on.
    static func keep(images: String) throws(SyscallError) {
        _ = try Descriptor(open: images + "/" + list, O_WRONLY | O_CREAT | O_EXCL)
    }

    /// Removes the kept names from a sandbox that goes on at the source; call it before the thaw.
    ///
    /// No list is no error.
    ///
    /// - Parameters:
    /// - images: the images directory of the dump.
    /// - pid: the sandbox's init on this host.
    package static func remove(images: String, rootOf pid: Int32) {
        let path = images + "/" + list
        guard let text = try? FileContents.string(of: path),
            let root = try? Descriptor(open: "/proc/\(pid)/root", O_RDONLY | O_DIRECTORY)
        else { return }
        for line in text.split(separator: "\n") {
            var parts = line.split(separator: "/").filter { $0 != "." }
            guard let name = parts.popLast(), name.hasPrefix("link_remap.") else { continue }
            let parent = parts.isEmpty ? "." : parts.joined(separator: "/")
            let raw = smi_open_below(root.raw, parent, O_RDONLY | O_DIRECTORY, 0)
            guard raw >= 0 else { continue }
            let directory = Descriptor(owning: raw)
            unlinkat(directory.raw, String(name), 0)
        }
        unlink(path)
    }
}
