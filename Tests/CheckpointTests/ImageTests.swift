import Glibc
import LinuxSystem
import Testing

@testable import Isolation

@Suite("Images", .enabled(if: geteuid() == 0, "needs root"))
struct ImageTests {
    /// A store, a libexec directory with something that stands for smi-init, and recipes.
    private final class Fixture: Sendable {
        let scratch: ScratchDirectory
        let store: ImageStore
        var builder: ImageBuilder { ImageBuilder(store: store, libexec: scratch.path + "/libexec") }

        init() throws {
            scratch = try ScratchDirectory("images")
            store = ImageStore(directory: scratch.path + "/images")
            try shell("mkdir libexec recipes; cp /bin/true libexec/smi-init", in: scratch.path)
        }

        /// Writes a recipe; returns its directory.
        func recipe(_ name: String, _ script: String) throws -> String {
            let path = scratch.path + "/recipes/" + name
            try Directories.make(path)
            try FileContents.replace(path + "/build", with: Array(("#!/bin/sh -eu\n" + script).utf8), mode: 0o755)
            return path
        }
    }

    private static let busybox = "\(#filePath)".split(separator: "/Tests/")[0] + "/images/busybox"

    @Test("of the busybox recipe have the same digest when built again")
    func busyboxTwice() throws {
        let fixture = try Fixture()
        let start = ContinuousClock.now
        let first = try fixture.builder.build(String(Self.busybox))
        let took = ContinuousClock.now - start
        let other = try Fixture()
        let again = try other.builder.build(String(Self.busybox))
        #expect(first.digest == again.digest)
        #expect(first.name == "busybox" && fixture.store.list() == [first])
        try fixture.store.verify("busybox")
        print("busybox image: \(first.size) bytes, built in \(took)")
    }

    @Test("do not depend on the order in which a directory gives its names")
    func directoryOrder() throws {
        let names = (0..<400).map { "f\($0 * 7919 % 1000)" }
        var digests: Set<String> = []
        for order in [names, names.reversed(), names.sorted()] {
            let fixture = try Fixture()
            let recipe = try fixture.recipe(
                "order",
                "cd \"$ROOT\"; mkdir d; for n in \(order.joined(separator: " ")); do echo $n > d/$n; done"
            )
            digests.insert(try fixture.builder.build(recipe).digest)
        }
        #expect(digests.count == 1)
    }

    @Test("hold smi-init, the directories that a sandbox needs, and no file with two names")
    func contents() throws {
        let fixture = try Fixture()
        let recipe = try fixture.recipe(
            "contents",
            "cd \"$ROOT\"; mkdir -p usr/sbin var/log/app; ln -s usr/sbin sbin; echo a > a; ln a b; chmod 4755 a; echo l > var/log/app/x"
        )
        let image = try fixture.builder.build(recipe)
        let path = try #require(fixture.store.path(digest: image.digest))
        let mount = fixture.scratch.path + "/mnt"
        try Directories.make(mount)
        try Mounts.mount(path, on: mount, type: "erofs", flags: UInt(MS_RDONLY))
        defer { try? Mounts.detachAll(mount) }
        let found = try shell(
            "stat -c '%n %a %h' a b usr/sbin/smi-init tmp proc dev var/log/app; ls var/log/app dev; stat -c %Y a",
            in: mount
        )
        let expected = """
            a 4755 1
            b 4755 1
            usr/sbin/smi-init 755 1
            tmp 1777 2
            proc 555 2
            dev 755 2
            var/log/app 755 2
            dev:

            var/log/app:
            0

            """
        #expect(found == expected)
    }

    @Test(
        "are refused when the tree holds a device node",
        arguments: ["mknod null c 1 3", "mkdir d; mknod d/disk b 8 0"]
    )
    func deviceInRecipe(script: String) throws {
        let fixture = try Fixture()
        let recipe = try fixture.recipe("device", "cd \"$ROOT\"; " + script)
        #expect { try fixture.builder.build(recipe) } throws: { error in
            (error as? IsolationError)?.code == .imageInvalid && "\(error)".contains("device node")
        }
        #expect(try shell("ls -A images", in: fixture.scratch.path).split(separator: "\n").allSatisfy { $0 == ".lock" })
    }

    @Test("are refused on import when they hold a device node, or are no erofs file, or are damaged")
    func importRefusals() throws {
        let fixture = try Fixture()
        try shell(
            """
            mkdir bad good; mknod bad/mem c 1 1; echo x > good/f
            mkfs.erofs --quiet -T0 bad.erofs bad; mkfs.erofs --quiet -T0 good.erofs good
            head -c 100000 /dev/urandom > noise
            cp good.erofs cut; truncate -s 2000 cut
            """,
            in: fixture.scratch.path
        )
        for name in ["bad.erofs", "noise", "cut", "missing", "good"] {
            #expect(throws: IsolationError.self, "\(name)") {
                try fixture.builder.importFile(fixture.scratch.path + "/" + name, name: "x")
            }
        }
        #expect(fixture.store.list().isEmpty)
        let image = try fixture.builder.importFile(fixture.scratch.path + "/good.erofs", name: "good")
        #expect(try fixture.store.resolve("good") == image)
        #expect(throws: IsolationError.self) {
            try fixture.builder.importFile(
                fixture.scratch.path + "/good.erofs",
                name: "other",
                expected: String(repeating: "0", count: 64)
            )
        }
        #expect(try shell("mount | grep -c '\(fixture.scratch.path)' || true") == "0\n", "nothing stays mounted")
    }

    @Test("cannot be named, or asked for, by anything that leads elsewhere")
    func names() throws {
        let fixture = try Fixture()
        let recipe = try fixture.recipe("ok", "echo a > \"$ROOT/a\"")
        for name in ["../x", "a/b", "", ".x", "A", "-x", String(repeating: "a", count: 65), "x\n"] {
            #expect(throws: IsolationError.self) { try fixture.builder.build(recipe, name: name) }
        }
        for reference in ["../../etc/passwd", "", "sha256:", "sha256:..", "nothing"] {
            #expect(throws: IsolationError.self) { try fixture.store.resolve(reference) }
            #expect(fixture.store.path(digest: reference) == nil)
        }
    }

    @Test("are found by name and digest, give their name to a later build, and are kept while in use")
    func lifecycle() throws {
        let fixture = try Fixture()
        let first = try fixture.builder.build(try fixture.recipe("app", "echo 1 > \"$ROOT/v\""))
        let second = try fixture.builder.build(try fixture.recipe("app", "echo 2 > \"$ROOT/v\""))
        #expect(first.digest != second.digest)
        #expect(try fixture.store.resolve("app").digest == second.digest)
        #expect(try fixture.store.resolve(first.digest).name == "")
        #expect(try fixture.store.resolve(String(first.hex.prefix(12))).digest == first.digest)
        #expect(throws: IsolationError.self) { try fixture.store.remove("app", used: [second.digest]) }
        try fixture.store.remove("app", used: [first.digest])
        #expect(fixture.store.list().map(\.digest) == [first.digest])
        #expect(fixture.store.path(digest: second.digest) == nil)
    }

    @Test("that were changed on the disk do not pass verification")
    func verification() throws {
        let fixture = try Fixture()
        let image = try fixture.builder.build(try fixture.recipe("v", "echo 1 > \"$ROOT/v\""))
        try fixture.store.verify("v")
        let path = try #require(fixture.store.path(digest: image.digest))
        try shell("printf x | dd of=\(path) bs=1 seek=3000 conv=notrunc status=none")
        #expect(throws: IsolationError.self) { try fixture.store.verify("v") }
    }

    @Test("of a recipe that fails are not made, and the error shows its last words")
    func failingRecipe() throws {
        let fixture = try Fixture()
        let recipe = try fixture.recipe("fails", "echo last words >&2; exit 3")
        #expect { try fixture.builder.build(recipe) } throws: { error in
            guard let error = error as? IsolationError else { return false }
            return error.code == .imageBuildFailed && error.log == "last words" && error.cause.contains("status 3")
        }
        #expect(throws: IsolationError.self) { try fixture.builder.build(fixture.scratch.path + "/nothing") }
        #expect(fixture.store.list().isEmpty)
    }

    @Test("take the Debian archive of the host's own release, not its updates or its security archive")
    func archive() {
        let targets = """
            http://deb.debian.org/debian-security/ trixie-security
            http://other.example/repo/ nodistro
            http://mirror.example/debian/ trixie
            http://mirror.example/debian/ trixie-updates
            """
        let archive = DebianArchive(targets: targets, release: "ID=debian\nVERSION_CODENAME=trixie\n")
        #expect(archive == DebianArchive(mirror: "http://mirror.example/debian/", suite: "trixie"))
        #expect(DebianArchive(targets: "", release: "").mirror.isEmpty)
    }
}

extension DebianArchive {
    init(mirror: String, suite: String) {
        self.init(targets: "\(mirror) \(suite)", release: "VERSION_CODENAME=\(suite)")
    }
}
