//! Which script the PHP inside a process serves: that of Apache's module, of a FastCGI server, of LiteSpeed. PHP keeps the
//! request in its variable `sapi_globals`.

use std::{fs::File, ops::Range};

use object::{
    NativeEndian,
    elf::{ET_EXEC, FileHeader64, SHT_DYNSYM, Sym64},
    read::{ReadCache, ReadRef, elf::FileHeader as _, elf::SectionHeader as _, elf::Sym as _},
};

use super::{
    fpm,
    living::Living,
    memory::{self, Mapping, Memory},
    path,
};

type Header = FileHeader64<NativeEndian>;

/// The tables of PHP's symbols are some hundred KiB. Everybody can have a file with far larger ones.
const LARGEST: u64 = 4 << 20;

/// `sapi_globals_struct` (main/SAPI.h, PHP 7.0 to 8.5): these words of 64 bits.
const SERVER_CONTEXT: usize = 0;
const METHOD: usize = 1;
const PATH_TRANSLATED: usize = 5;
const WORDS: usize = 6;

/// In PHP 5 other fields stand there, the visitor's cookies among them. It has no such function.
const SINCE_PHP_7: &[u8] = b"zend_throw_error";

/// What a process that can hold PHP says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Serves {
    /// PHP's own word for the request, of a script in the directory that was asked about.
    Script(Vec<u8>),
    /// PHP goes to the directory of a script that it runs, and no more is known.
    SomeScript,
    /// There is no PHP in it, or one that goes nowhere because its threads share the directory.
    Nothing,
}

/// What `living` serves, which was in `directory` when it was seen.
pub(super) fn serves(living: &Living, directory: &[u8]) -> Serves {
    let Some(maps) = memory::maps(living) else { return Serves::SomeScript };
    let exe = living.exe().map(|exe| String::from_utf8_lossy(&exe).into_owned()).unwrap_or_default();
    let Some((start, end)) = maps.lines().find_map(|line| beginning_of_php(line, &exe)) else { return Serves::Nothing };
    // What is mapped, whatever has its name by now.
    let file = File::open(living.path(&format!("map_files/{start:x}-{end:x}"))).ok();
    let file = file.filter(|file| file.metadata().is_ok_and(|about| about.is_file()));
    let memory = file.as_ref().and_then(|file| Memory::of(living, &maps, file));
    let file = file.map(ReadCache::new);
    let address = match file.as_ref().and_then(|file| globals(Tables(file))) {
        Some(Globals::At(address)) => Some(address),
        Some(Globals::From(distance)) => start.checked_add(distance),
        Some(Globals::OfThreads) => return Serves::Nothing,
        None => None,
    };
    let script = address.zip(memory).and_then(|(address, memory)| request(&memory, address));
    // PHP leaves the directory when it has done with the script: whoever is still there is still about it.
    let script =
        script.filter(|script| living.cwd().as_deref() == Some(directory) && fpm::is_in(living, script, directory));
    script.map_or(Serves::SomeScript, Serves::Script)
}

/// Addresses of the mapping that a PHP's file begins with.
fn beginning_of_php(line: &str, exe: &str) -> Option<(u64, u64)> {
    let mapping = Mapping::parse(line)?;
    let is_module = path::file_name(mapping.name.as_bytes()).starts_with(b"libphp");
    let is_program = mapping.name == exe && !is_web_server(exe.as_bytes());
    let is_it = mapping.offset == 0 && mapping.name.starts_with('/') && (is_module || is_program);
    is_it.then_some((mapping.addresses.start, mapping.addresses.end))
}

/// Web servers that run PHP as a module, in their own processes.
pub(super) fn is_web_server(program: &[u8]) -> bool {
    [&b"apache2"[..], b"httpd", b"httpd.worker", b"httpd.event"].contains(&path::file_name(program))
}

/// Programs that serve PHP as a CGI, by FastCGI or by LiteSpeed's protocol.
pub(super) fn is_cgi(program: &[u8]) -> bool {
    [&b"php-cgi"[..], b"lsphp"].iter().any(|name| path::file_name(program).starts_with(name))
}

/// Where a PHP has its `sapi_globals`.
enum Globals {
    /// At this address.
    At(u64),
    /// So far behind where the file is mapped.
    From(u64),
    /// Each thread has its own.
    OfThreads,
}

/// What the symbols of a file say; `None` if they are no PHP's, or PHP 5's.
fn globals(file: Tables<'_>) -> Option<Globals> {
    let header = Header::parse(file).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, file).ok()?;
    let symbols = sections.symbols(endian, file, SHT_DYNSYM).ok()?;
    let strings = sections.section(symbols.string_section()).ok()?.data(endian, file).ok()?;
    let find = |name: &[u8]| {
        let is_it =
            |symbol: &&Sym64<_>| strings.get(symbol.st_name(endian) as usize..)?.strip_prefix(name)?.first().copied();
        symbols.iter().find(|symbol| is_it(symbol) == Some(0)).map(|symbol| symbol.st_value(endian))
    };
    find(SINCE_PHP_7)?;
    let is_fixed = header.e_type(endian) == ET_EXEC;
    Some(match find(b"sapi_globals") {
        Some(address) if is_fixed => Globals::At(address),
        Some(distance) => Globals::From(distance),
        None => Globals::OfThreads,
    })
}

/// A file of which only so much is read at a time.
#[derive(Clone, Copy)]
struct Tables<'f>(&'f ReadCache<File>);

impl<'f> ReadRef<'f> for Tables<'f> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'f [u8], ()> {
        if size > LARGEST { Err(()) } else { self.0.read_bytes_at(offset, size) }
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'f [u8], ()> {
        self.0.read_bytes_at_until(range, delimiter)
    }
}

/// The script of the request that the variable tells of.
fn request(memory: &Memory, address: u64) -> Option<Vec<u8>> {
    let mut bytes = [0; WORDS * 8];
    memory.read(&mut bytes, address)?;
    let word = |at: usize| u64::from_ne_bytes(bytes[at * 8..][..8].try_into().expect("eight"));
    if word(SERVER_CONTEXT) == 0 {
        return None;
    }
    let read = |bytes: &mut [u8], at| memory.read(bytes, at);
    let method = text(read, word(METHOD), 16)?;
    let script = text(read, word(PATH_TRANSLATED), libc::PATH_MAX as usize)?;
    (fpm::METHODS.contains(&&method[..]) && script.starts_with(b"/")).then_some(script)
}

/// What stands at an address up to a NUL, if that comes soon enough.
fn text(read: impl Fn(&mut [u8], u64) -> Option<()>, address: u64, longest: usize) -> Option<Vec<u8>> {
    const PAGE: usize = 4096;
    let mut text = Vec::new();
    while text.len() <= longest {
        let at = address.checked_add(text.len() as u64)?;
        // To the end of its page: the next may not be there.
        let mut page = [0; PAGE];
        let page = &mut page[at as usize % PAGE..];
        read(page, at)?;
        let end = page.iter().position(|b| *b == 0);
        text.extend_from_slice(&page[..end.unwrap_or(page.len())]);
        if end.is_some() {
            return (text.len() <= longest).then_some(text);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{io::Write, os::unix::fs::FileExt};

    #[test]
    fn the_php_in_a_process_is_its_module_or_its_program() {
        let module = "7f10-7f20 r--p 00000000 08:01 17   /usr/lib/apache2/modules/libphp8.2.so";
        assert_eq!(beginning_of_php(module, "/usr/sbin/apache2"), Some((0x7f10, 0x7f20)));
        let code = "7f20-7f30 r-xp 00010000 08:01 17   /usr/lib/apache2/modules/libphp8.2.so";
        assert_eq!(beginning_of_php(code, "/usr/sbin/apache2"), None, "not its beginning");
        let program = "5510-5520 r--p 00000000 08:01 18   /usr/bin/lsphp8.2";
        assert_eq!(beginning_of_php(program, "/usr/bin/lsphp8.2"), Some((0x5510, 0x5520)));
        for other in
            ["5510-5520 r--p 00000000 08:01 18   /usr/sbin/apache2", "", "x", "7f10-7f20 rw-p 00000000 00:00 0"]
        {
            assert_eq!(beginning_of_php(other, "/usr/sbin/apache2"), None, "{other}");
        }
    }

    #[test]
    fn a_text_ends_with_nul_on_whichever_page() {
        let mut file = tempfile::tempfile().unwrap();
        let long = [b'x'; 5000];
        file.write_all(&[&b"ab\0"[..], &long, b"\0", &[b'y'; 3188]].concat()).unwrap();
        let read = |bytes: &mut [u8], at| file.read_exact_at(bytes, at).ok();
        assert_eq!(text(read, 0, 16).unwrap(), b"ab");
        assert_eq!(text(read, 2, 16).unwrap(), b"");
        assert_eq!(text(read, 3, 5000).unwrap(), long);
        assert_eq!(text(read, 3, 4999), None, "too long");
        assert_eq!(text(read, 5100, 4096), None, "no end");
        assert_eq!(text(read, u64::MAX, 16), None);
    }

    proptest! {
        #[test]
        fn no_map_and_no_file_makes_it_panic(line: String, bytes: Vec<u8>) {
            let _ = beginning_of_php(&line, "/usr/bin/php-cgi");
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            prop_assert!(globals(Tables(&ReadCache::new(file))).is_none());
        }
    }
}
