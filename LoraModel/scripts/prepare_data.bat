@echo off
rem prepare_data.py with the right Python: %PYTHON%, RVC's own runtime, run.py's environment, or the one on PATH.
rem   scripts\prepare_data.bat --input_dir RECORDINGS --output_dir OUTPUT [options]
setlocal
set "SCRIPT=%~dp0prepare_data.py"
if defined PYTHON goto run
set "PYTHON=%~dp0..\..\runtime\python.exe"
if exist "%PYTHON%" goto run
set "PYTHON=%~dp0..\..\.venv\Scripts\python.exe"
if exist "%PYTHON%" goto run
set "PYTHON=%~dp0..\..\venv\Scripts\python.exe"
if exist "%PYTHON%" goto run
rem Windows has a "python" that only opens its shop: the one that is taken has to run.
set "PYTHON=python"
python -c "" >nul 2>nul
if not errorlevel 1 goto run
set "PYTHON=py"
py -c "" >nul 2>nul
if not errorlevel 1 goto run
echo error: no Python was found: install Python 3.11, or name one in the variable PYTHON 1>&2
exit /b 2
:run
"%PYTHON%" "%SCRIPT%" %*
exit /b %errorlevel%
