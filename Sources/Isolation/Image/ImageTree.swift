import Glibc
import LinuxSystem

/// Checks a directory tree that is, or shall become, a base image.
enum ImageTree {
    /// Refuses device nodes, names that could lead elsewhere, and files with several names.
    ///
    /// The last because an overlay copies a file up under one of its names: on the host where that happened the other name
    /// follows (the overlay's index), on the next host it would not.
    /// - Throws: `imageInvalid` naming the object.
    static func validate(_ root: String) throws {
        let directory = try Descriptor(open: root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        try visit(directory, path: "")
    }

    private static func visit(_ directory: Descriptor, path: String) throws {
        for name in Directories.names(in: directory) {
            let shown = path + "/" + String(decoding: name, as: UTF8.self)
            guard TreeBuild.isPlain(name), !name.contains(0x2f) else { throw refusal(shown, "has an impossible name") }
            guard shown.utf8.count <= TreeFormat.longestPath else { throw refusal(path, "is nested too deep") }
            let cName = name.map { CChar(bitPattern: $0) } + [0]
            var status = stat()
            try syscall("fstatat", shown) { fstatat(directory.raw, cName, &status, AT_SYMLINK_NOFOLLOW) }
            switch status.st_mode & S_IFMT {
            case S_IFDIR:
                let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
                let below = Descriptor(owning: try syscall("open", shown) { openat(directory.raw, cName, flags) })
                try visit(below, path: shown)
            case S_IFREG where status.st_nlink > 1: throw refusal(shown, "has a second name (a hard link)")
            case S_IFREG, S_IFLNK, S_IFIFO, S_IFSOCK: break
            case S_IFCHR, S_IFBLK: throw refusal(shown, "is a device node")
            default: throw refusal(shown, "is of an unknown kind")
            }
        }
    }

    private static func refusal(_ path: String, _ reason: String) -> IsolationError {
        IsolationError(
            .imageInvalid,
            cause: "the image is refused: \(path) \(reason)",
            remedy: "remove it in the recipe or from the tree that the image is made of"
        )
    }
}
