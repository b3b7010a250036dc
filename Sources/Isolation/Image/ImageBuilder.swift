import Glibc
import LinuxSystem

/// Makes base images from recipes.
///
/// A recipe is a directory with an executable `build`. It is run as root, in the recipe's directory, and fills the
/// directory `$ROOT`; it also gets `$SOURCE_DATE_EPOCH`, and from the host's own apt sources `$DEBIAN_MIRROR` and
/// `$DEBIAN_SUITE`. Then smi-init is put into `/sbin`, and what differs between two runs with the same packages is
/// removed. The same tree always makes the same file: fixed identifier and times, names sorted by mkfs.erofs.
package struct ImageBuilder: Sendable {
    private let store: ImageStore
    private let initProgram: String

    /// A builder for a host.
    ///
    /// - Parameters:
    ///   - store: where images go.
    ///   - libexec: `HostPaths.libexec`, which holds `smi-init`.
    package init(store: ImageStore, libexec: String) {
        self.store = store
        initProgram = libexec + "/smi-init"
    }

    /// 2025-01-01: the time of everything that carries one inside an image.
    private static let epoch = "1735689600"
    private static let identifier = "736d6972-756e-4a00-8000-000000000001"

    /// Builds the recipe in `recipe` (blocks for as long as that takes); its name is the directory's.
    ///
    /// - Throws: `imageBuildFailed` with the end of the recipe's output, `imageInvalid`, or `diskFull`.
    package func build(_ recipe: String, name: String? = nil) throws -> ImageRecord {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        guard realpath(recipe, &buffer) != nil, access(Self.text(buffer) + "/build", X_OK) == 0 else {
            throw IsolationError(
                .imageBuildFailed,
                cause: "\(recipe) is no recipe: it has no executable 'build'",
                remedy: "see images/busybox for an example"
            )
        }
        let recipe = Self.text(buffer)
        let name = name ?? String(recipe.split(separator: "/").last ?? "")
        try store.checkName(name)
        let work = try store.temporary("build")
        defer { try? Directories.removeTree(work) }
        let root = work + "/root"
        try Directories.make(root, mode: 0o755)
        try run(recipe: recipe, root: root, work: work)
        try ImageNormalizer(root: root, initProgram: initProgram).run()
        try ImageTree.validate(root)
        return try pack(root, name: name, work: work)
    }

    /// Takes an erofs file in, after looking at everything in it.
    ///
    /// - Throws: `imageInvalid`, or `diskFull`.
    package func importFile(_ path: String, name: String, expected: String? = nil) throws -> ImageRecord {
        try store.checkName(name)
        let work = try store.temporary("import")
        defer { try? Directories.removeTree(work) }
        try Directories.make(work)
        let copy = work + "/image"
        try ImageFile.copy(path, to: copy)
        try ImageFile.inspect(copy, mountPoint: work + "/root")
        return try store.adopt(copy, name: name, expected: expected)
    }

    private func run(recipe: String, root: String, work: String) throws {
        var command = HelperCommand(["/bin/sh", "-c", "exec ./build >\"$LOG\" 2>&1"])
        let archive = DebianArchive.ofThisHost()
        let log = work + "/log"
        command.directory = recipe
        command.newSession = true
        command.environment += [
            "ROOT=\(root)", "LOG=\(log)", "SOURCE_DATE_EPOCH=\(Self.epoch)", "TZ=UTC", "HOME=/root",
            "DEBIAN_MIRROR=\(archive.mirror)", "DEBIAN_SUITE=\(archive.suite)",
        ]
        let result = try command.run(timeout: .seconds(1800))
        guard result.status == 0 else {
            let text = (try? FileContents.string(of: log)) ?? ""
            throw IsolationError(
                .imageBuildFailed,
                cause: "the recipe \(recipe) failed with status \(result.status)",
                remedy: "read the end of its output below; the network and the disk are the usual causes",
                log: text.split(separator: "\n").suffix(30).joined(separator: "\n")
            )
        }
    }

    private func pack(_ root: String, name: String, work: String) throws -> ImageRecord {
        let file = work + "/image"
        // lz4hc makes the debian image about half as large, which is what crosses the network to the next host. It costs
        // 3 s of processor time here and, against an image that is not compressed, nothing measurable at a read.
        let argv = ["mkfs.erofs", "--quiet", "-T0", "-U\(Self.identifier)", "-zlz4hc", file, root]
        let result = try HelperCommand(argv).run(timeout: .seconds(600))
        guard result.status == 0 else {
            throw IsolationError(
                .imageBuildFailed,
                cause: "mkfs.erofs failed with status \(result.status)",
                remedy: "scripts/setup installs erofs-utils; check the free space in \(store.directory)",
                log: result.error
            )
        }
        return try store.adopt(file, name: name)
    }

    private static func text(_ buffer: [CChar]) -> String {
        String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
